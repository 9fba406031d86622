"""Does as its configuration says, and leaves a journal of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pathoflow.errors import InputError
from pathoflow.system.files import write_atomically

if TYPE_CHECKING:
    from pathoflow.contract.output import StageOutput
    from tests.support.toy.config import ToyConfig


def run(config: ToyConfig, *, out: StageOutput) -> None:
    """Writes `text.txt` and what else was asked for."""
    _note(config, "run")
    _read_items(config, out)
    for step in range(config.num_steps):
        _take(step, config, out)
    for step in range(config.num_points):
        out.series(step, loss=1.0 / (step + 1))
    if config.big_bytes:
        with (out.path / "big.bin").open("wb") as file:
            for _ in range(0, config.big_bytes, 2**16):
                file.write(b"\7" * 2**16)
    folder = out.path / "parts" / "deep"
    folder.mkdir(parents=True)
    (folder / "number.bin").write_bytes(bytes(range(256)))
    (out.path / "text.txt").write_text(config.text + "".join(book.read_text() for book in config.books))
    out.metric("score", config.score)
    out.note("spirit", "merry")
    if config.ending == "raise":
        raise RuntimeError("the toy broke")
    if config.ending == "user_error":
        raise InputError("toy.txt is empty. Write something in it.")
    if config.ending == "nan":
        out.metric("score", float("nan"))
    if config.ending == "link":
        (out.path / "link.txt").symlink_to(out.path / "text.txt")


def _read_items(config: ToyConfig, out: StageOutput) -> None:
    """Sets bad items aside as stages do: whatever one of them raises."""
    out.num_in = config.num_items
    for number in range(config.num_items):
        try:
            time.sleep(config.item_s)
            if number < config.num_bad:
                raise ValueError(f"{number} is bad")
            out.num_out += 1
        except Exception as error:
            out.quarantine(f"item {number}", "bad_number", str(error))


def _take(step: int, config: ToyConfig, out: StageOutput) -> None:
    """One step: slow, and never repeated once its part is in scratch."""
    part = out.scratch / f"part-{step}"
    out.progress(step + 1, config.num_steps, "steps")
    if part.exists():
        return
    _note(config, f"begin {step}")
    time.sleep(config.step_s)
    write_atomically(part, str(step))
    _note(config, f"end {step}")


def _note(config: ToyConfig, words: str) -> None:
    if config.journal:
        with config.journal.open("a") as file:
            file.write(f"{words}\n")
