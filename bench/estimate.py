"""Compares `pathoflow estimate`'s memory with measured peaks of trainings small enough for CPUs.

Each configuration runs the stage's own worker in fresh processes, see `bench.estimate_run`; the fullest process counts.
The estimate is that of a GPU without what CUDA takes, for a process on CPUs: what attention copies there counts, and
buffers that nothing was written to do not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.estimate_data import SIDE, build_base, write_conversations, write_pairs, write_questions
from bench.report import Figure, conclude
from components.training.cpt.config import CptConfig
from components.training.pathoclip.config import PathoclipConfig
from components.training.rl.config import RlConfig
from components.training.sft.config import SftConfig
from pathoflow.contract.output import StageOutput
from pathoflow.estimate import clip_memory, fine_tuning_memory, rl_memory
from pathoflow.estimate.gpu_memory import Phase, peak_phase
from pathoflow.estimate.shapes import tiny_clip, vision_language
from pathoflow.modeling.pretrained import load_processor
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.training.job import Job

GOAL_PERCENT = 20
_VOCABULARY = 4096
_VISION = {"vision_num_heads": 8, "vision_depth": 4, "vision_hidden_size": 256, "vision_intermediate_size": 512}
SHAPE = TinyShape(
    vocabulary_size=_VOCABULARY, hidden_size=512, num_layers=4, num_heads=8, intermediate_size=2048, **_VISION
)
_FIRST_SHAPE = TinyShape(vocabulary_size=_VOCABULARY, num_layers=2)
_CLIP = {
    "image_size_px": 112,
    "patch_size_px": 14,
    "vision_width": 512,
    "vision_depth": 6,
    "text_width": 256,
    "text_depth": 4,
    "num_heads": 8,
    "max_length_tokens": 77,
}
_FIRST_CLIP = _CLIP | {"vision_width": 64, "vision_depth": 1, "text_width": 64, "text_depth": 1}
_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}
_TRAINING = {
    "bf16": False,
    "gradient_checkpointing": False,
    "max_steps": 2,
    "batch_size_per_process": 4,
    "freeze_vision_tower": True,
    # The models are random.
    "max_initial_loss_share": None,
}
_PACKED = {"pack_tokens": 4096, "max_length_tokens": 1024}
_RL = {
    "algorithm": "grpo",
    "beta": 0.1,
    "num_generations": 4,
    "prompts_per_step": 4,
    "batch_size_per_process": 4,
    "gradient_accumulation_steps": 4,
    "max_completion_tokens": 48,
    "overlong_cache_tokens": 8,
    "max_pixels": SIDE * SIDE,
    "prompt_style": "short",
    "eval_every_steps": 2,
    "save_every_steps": 2,
}


@dataclass(frozen=True)
class Case:
    """Configuration to measure.

    Attributes:
        name: Its special feature.
        stage: Its stage.
        values: Values of the stage's configuration that differ from the benchmark's.
    """

    name: str
    stage: str
    values: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case("cpt, vision tower frozen", "cpt"),
    Case("cpt, everything learns", "cpt", {"freeze_vision_tower": False}),
    Case("cpt, gradient checkpointing", "cpt", {"gradient_checkpointing": True}),
    Case("sft, bfloat16", "sft", {"bf16": True, "batch_size_per_process": 2}),
    Case("sft, LoRA", "sft", {"lora_rank": 16, "freeze_merger": True}),
    Case("cpt, ZeRO-2, 2 processes", "cpt", {"deepspeed_stage": 2, "num_processes": 2, "batch_size_per_process": 2}),
    Case("cpt, ZeRO-3, 2 processes", "cpt", {"deepspeed_stage": 3, "num_processes": 2, "batch_size_per_process": 2}),
    Case("rl, GRPO with KL", "rl"),
    Case("rl, DAPO without", "rl", {"algorithm": "dapo", "beta": 0.0}),
    Case("pathoclip", "pathoclip"),
)
_QUICK = ("cpt, gradient checkpointing", "pathoclip")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two configurations")
    parser.add_argument("--only", action="append", metavar="NAME", help="this configuration; repeatable")
    options = parser.parse_args()
    chosen = options.only or (_QUICK if options.quick else [case.name for case in CASES])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder)
        figures = [_compare(case, folder) for case in CASES if case.name in chosen]
    conclude("Peak of memory, estimate against measurement", figures)


def _write(folder: Path) -> None:
    build_base(folder / "base", SHAPE)
    build_base(folder / "first", _FIRST_SHAPE)
    write_pairs(folder / "corpus", 64)
    write_pairs(folder / "corpus", 8, "heldout")
    write_conversations(folder / "reasoning", 64)
    write_questions(folder / "mcqs", 16)


def _compare(case: Case, folder: Path) -> Figure:
    measured = _measure(case, folder)
    phase = peak_phase(_estimate(case, folder))
    parts = ", ".join(f"{part} {value / 1e6:.0f}" for part, value in phase.parts.items() if value >= 5e5)
    print(
        f"{case.name}: {phase.total / 1e6:.0f} MB estimated at the {phase.name} ({parts}), {measured / 1e6:.0f} MB",
        flush=True,
    )
    off = 100 * abs(phase.total / measured - 1)
    return Figure(f"memory estimate, {case.name}", off, "% off", "measured peak above what a process has", GOAL_PERCENT)


def _config(case: Case, base: Path) -> CptConfig | SftConfig | RlConfig | PathoclipConfig:
    if case.stage == "pathoclip":
        return PathoclipConfig(
            model="tiny", tiny=_FIRST_CLIP if base.name == "first" else _CLIP, num_steps=2, batch_size=24, num_threads=1
        )
    values = _TRAINING | dict(case.values)
    if case.stage == "rl":
        return RlConfig(**(_TRAINING | _RL | dict(case.values)))
    if case.stage == "sft":
        return SftConfig(**_PACKED, dev_questions=0, **values)
    return CptConfig(model=str(base / "model"), max_pixels=SIDE * SIDE, **_PACKED, **values)


def _measure(case: Case, folder: Path) -> int:
    """Returns the bytes by which the memory of the fullest process rose."""
    place = folder / case.name.replace(" ", "_").replace(",", "")
    jobs = [_job(case, folder, folder / base, place / base) for base in ("first", "base")]
    processes = case.values.get("num_processes", 1)
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [sys.executable, *start, "-m", "bench.estimate_run", case.stage, *map(str, jobs), str(place / "figures")]
    done = subprocess.run(command, env=os.environ | _ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case.name} failed:\n{done.stderr[-4000:]}")
    found = [json.loads(path.read_text()) for path in place.glob("figures.*.json")]
    assert len(found) == processes
    return max(int(figures["peak"]) - int(figures["before"]) for figures in found)


def _job(case: Case, folder: Path, base: Path, place: Path) -> Path:
    config = _config(case, base)
    out = StageOutput(place / "output", place / "scratch")
    if isinstance(config, PathoclipConfig):
        file = place / "job.json"
        asked = {"output": place / "output", "scratch": place / "scratch", "corpus": folder / "corpus"}
        file.write_text(json.dumps(asked | {"config": config.resolved()}, default=str))
        return file
    before = {"cpt": "corpus", "sft": "cpt", "rl": "sft"}[case.stage]
    inputs = {"corpus": folder / "corpus", "reasoning_data": folder / "reasoning", "diagnosis_mcqs": folder / "mcqs"}
    inputs |= {before: base} if before != "corpus" else {}
    return Job.create(config, {name: inputs[name] for name in config.inputs if name in inputs}, out).file


def _estimate(case: Case, folder: Path) -> list[Phase]:
    config: Any = _config(case, folder / "base")
    if isinstance(config, PathoclipConfig):
        return clip_memory.phases(tiny_clip(config.tiny), config.batch_size, config.tiny.max_length_tokens)
    shape = vision_language(folder / "base" / "model")
    image_tokens = SIDE * SIDE // 28**2
    if isinstance(config, RlConfig):
        rollouts = rl_memory.Rollouts(_prompt_tokens(folder, config), image_tokens, config.max_completion_tokens)
        return rl_memory.phases(config, shape, rollouts, on_gpu=False)
    place = folder / case.name.replace(" ", "_").replace(",", "")
    with np.load(place / "base" / "scratch" / "lengths.npz") as lengths:
        mean = float(lengths["tokens"].mean())
    samples = config.batch_size_per_process
    targets = mean - image_tokens if case.stage == "cpt" else _response_tokens(folder)
    pack = fine_tuning_memory.LargestPack(samples * mean, samples * image_tokens, samples * targets, repeated=False)
    return fine_tuning_memory.phases(config, shape, pack, on_gpu=False)


def _prompt_tokens(folder: Path, config: RlConfig) -> int:
    """Tokens of the longest question, image included."""
    from pathoflow.data.schemas import read_rows
    from pathoflow.modeling.encoding import Encoder, prompt
    from pathoflow.qa.question import Question

    processor = load_processor(folder / "base" / "model", max_pixels=config.max_pixels)
    questions = [Question.of_row(row) for row in read_rows(folder / "mcqs" / "train")]
    asked = [prompt(question.messages(config.prompt_style), question.images, processor) for question in questions]
    return max(length for length, _ in Encoder(processor).measure(asked))


def _response_tokens(folder: Path) -> float:
    """Returns the tokens of the mean response that sft learns."""
    from pathoflow.data.schemas import read_rows

    tokenizer = load_processor(folder / "base" / "model").tokenizer
    rows = list(read_rows(folder / "reasoning" / "train"))
    texts: Sequence[str] = [row["messages"][-1]["content"][0]["text"] for row in rows]
    return float(np.mean([len(tokenizer(text)["input_ids"]) for text in texts]))


if __name__ == "__main__":
    main()
