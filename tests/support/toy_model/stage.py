"""Makes a model whose weights are the toy's text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathoflow.contract.output import StageOutput
    from tests.support.toy_model.config import ToyModelConfig


def run(config: ToyModelConfig, *, toy: Path, out: StageOutput) -> None:
    """Writes `model/weights.bin`."""
    folder = out.path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes((toy / "text.txt").read_bytes() * config.num_weights)
    out.num_in = out.num_out = 1
    out.metric("num_weights", config.num_weights)
