"""How weights, gradients and optimiser states are kept, and which moment is the fullest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathoflow.estimate.gpu_memory import Phase, Runtime, TrainingPass, Weights, peak_phase, training_phases

BILLION = 1_000_000_000
PLAIN = Weights(learning=BILLION, frozen=0, largest=100_000_000, layer=50_000_000, tied=False)
WORK = TrainingPass(kept=3e9, passing=1e8, logits=2e9)


def test_zero_divides_sixteen_bytes_a_parameter() -> None:
    """Rajbhandari et al. 2020: 16 bytes a parameter, of which stage 2 divides 14 and stage 3 all."""
    for stage, whole in ((2, 2), (3, 0)):
        kept = replace(PLAIN, deepspeed_stage=stage, processes=8)
        states = kept.model() + kept.gradients() + kept.optimizer()
        assert states == pytest.approx((whole + (16 - whole) / 8) * BILLION)


def test_without_deepspeed_weights_and_moments_are_float32() -> None:
    assert PLAIN.model() + PLAIN.gradients() + PLAIN.optimizer() == 16 * BILLION
    # DistributedDataParallel's buckets hold the gradients once more.
    assert replace(PLAIN, processes=2).buckets() == 4 * BILLION


def test_what_is_frozen_has_weights_alone() -> None:
    frozen = replace(PLAIN, learning=BILLION // 10, frozen=BILLION * 9 // 10)
    assert frozen.model() == PLAIN.model()
    assert frozen.gradients() + frozen.optimizer() == pytest.approx(12 * BILLION / 10)


def test_what_is_offloaded_is_not_on_the_gpu() -> None:
    offloaded = replace(PLAIN, deepspeed_stage=3, processes=2, offload="all")
    assert offloaded.model() == offloaded.gradients() == offloaded.optimizer() == 0


def test_a_reference_is_a_second_model_which_stage_3_alone_divides() -> None:
    referred = replace(PLAIN, reference=True, deepspeed_stage=2, processes=4)
    assert referred.second_model() == 2 * BILLION
    assert replace(referred, deepspeed_stage=3).second_model() == BILLION / 2


def test_autocast_copies_all_weights_only_where_the_backward_pass_needs_them() -> None:
    frozen = replace(PLAIN, learning=0, frozen=BILLION)
    assert frozen.casts(checkpointed=False) == 2 * BILLION
    assert frozen.casts(checkpointed=True) == 2 * frozen.largest
    assert replace(PLAIN, bf16=False).casts(checkpointed=False) == 0


def test_gradients_of_earlier_packs_are_there_in_the_forward_pass() -> None:
    once, again = (training_phases(PLAIN, replace(WORK, repeated=repeated))[0] for repeated in (False, True))
    assert again.total - once.total == PLAIN.gradients()


def test_the_runtime_is_added_to_what_comes_and_goes() -> None:
    phase = Runtime(fixed=10.0, fragmentation=0.5).on(Phase("now", {"weights": 100.0, "activations": 20.0}))
    assert phase.parts["runtime"] == 20.0
    assert phase.total == 140.0


@given(
    learning=st.integers(0, 10**10),
    frozen=st.integers(0, 10**10),
    stage=st.sampled_from([2, 3]),
    processes=st.integers(1, 64),
    kept=st.floats(0, 1e11),
    offload=st.sampled_from(["none", "optimizer"]),
)
def test_more_processes_never_take_more_of_a_gpu(learning, frozen, stage, processes, kept, offload) -> None:
    weights = replace(PLAIN, learning=learning, frozen=frozen, deepspeed_stage=stage, offload=offload)
    work = replace(WORK, kept=kept)
    few, many = (
        peak_phase(training_phases(replace(weights, processes=number), work)).total
        for number in (processes, processes + 1)
    )
    assert many <= few * (1 + 1e-9)
