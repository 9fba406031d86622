"""What is the same place in a program, and how it is named."""

from __future__ import annotations

import gc
import sys
import weakref

from pathoflow.training.stack_traces import StuckTimer, in_collective, place


def here():
    return sys._getframe()


def elsewhere(still, now):
    return still.seconds(sys._getframe(), now)


def test_a_call_that_goes_on_is_still_and_one_that_returns_is_not():
    still = StuckTimer(doubt_after_s=100, gap_s=10)
    for now in range(5):
        assert elsewhere(still, float(now)) == (0.0 if now == 0 else now)
    assert still.seconds(sys._getframe(), 5.0) == 0.0


def test_the_same_line_of_another_call_is_not_still_once_it_seemed_to_be_for_long():
    """As where every step spends most of its time in one call: each look finds the same line."""
    still = StuckTimer(doubt_after_s=3, gap_s=10)
    seen = [elsewhere(still, float(now)) for now in range(20)]
    assert max(seen) <= 4
    frame = here()
    assert [still.seconds(frame, 30.0 + now) for now in range(20)] == list(range(20))


def test_a_process_that_did_not_run_itself_did_not_wait():
    still = StuckTimer(doubt_after_s=100, gap_s=10)
    frame = here()
    assert [still.seconds(frame, now) for now in (0.0, 9.0, 5000.0, 5004.0)] == [0.0, 9.0, 0.0, 4.0]


def test_nothing_that_a_call_holds_is_kept_before_there_is_doubt():
    class Large:
        pass

    still = StuckTimer(doubt_after_s=3, gap_s=10)

    def call(now):
        large = Large()
        still.seconds(sys._getframe(), now)
        return weakref.ref(large)

    held = [call(float(now)) for now in range(3)]
    gc.collect()
    assert [reference() for reference in held] == [None] * 3


def test_a_place_names_the_line_here_and_the_call_into_a_library():
    import json

    found = []

    class Looking(dict):
        def items(self):
            found.append(place(sys._getframe().f_back))
            return super().items()

    json.dumps(Looking(a=1), indent=1, sort_keys=True)
    (found,) = found
    assert found.startswith("tests/pathoflow/training/test_stack_traces.py:")
    assert "(test_a_place_names_the_line_here_and_the_call_into_a_library), in json/encoder.py:" in found
    assert place(here()).endswith("(here)")


def in_module(name: str, function: str, within: str = "sys._getframe()"):
    space = {"__name__": name, "sys": sys}
    exec(f"def {function}(*inner):\n    return inner[0]() if inner else {within}", space)
    return space[function]


def test_a_collective_is_known_by_its_module():
    zero_3 = "deepspeed.runtime.zero.partition_parameters"
    for name, function, expected in (
        ("torch.distributed.distributed_c10d", "all_reduce", True),
        ("deepspeed.comm.torch", "all_gather", True),
        ("torch.distributedly", "all_reduce", False),
        ("torch.nn.functional", "linear", False),
        (zero_3, "wait", True),
        (zero_3, "partition", False),
    ):
        assert in_collective(in_module(name, function)()) == expected


def test_a_wrapper_is_not_where_a_process_waits():
    inside = in_module("deepspeed.utils.nvtx", "wrapped_fn", "(sys._getframe(), observe(sys._getframe()))")
    found = []
    inside.__globals__["observe"] = lambda frame: found.append((in_collective(frame), place(frame)))
    in_module("torch.distributed.somewhere", "gather")(inside)
    ((waits, where),) = found
    assert waits
    assert where.endswith("(gather)")
