"""Measures model FLOPs utilisation, tokens a second and data wait of the training engine on one GPU.

`python -m bench.gpu.train_throughput --shape 3b --out results.json`. The models have the shapes of Qwen2.5-VL and
random weights, so nothing is downloaded. Needed are torch, transformers, accelerate, pydantic, Pillow, numpy, psutil
and rich beside this repository; `--against-trl` also needs trl and datasets. `--device cpu --shape tiny` tries the
script out.

What is measured is the engine itself (`pathoflow.training.engine.PackTrainer`) with its data workers, from JPEG files
to the optimiser's step. Weights, gradients and AdamW's states are bfloat16: float32 ones of the 7B model would not fit
one GPU, and a run on eight of them spreads them by ZeRO.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Data workers tokenize short texts: threads of their own would only get in each other's way.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import Qwen2_5_VLConfig, TrainerCallback

from bench.report import Figure, conclude
from components.training.sft.config import SftConfig
from pathoflow.data.image_io import encode_jpeg
from pathoflow.modeling import encoding
from pathoflow.modeling.encoding import Encoder, Sample
from pathoflow.modeling.flops import Flops, forward_flops, sample_cost, training_flops
from pathoflow.modeling.processor import Qwen2_5_VLProcessor, new_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.tokenizer import IMAGE_PAD, VIDEO_PAD, VISION_END, VISION_START, train_tokenizer
from pathoflow.qa.prompts import prompt_messages, text_message
from pathoflow.training.engine import PackTrainer, pack_arguments, plan_steps
from pathoflow.training.lengths import SampleLengths
from pathoflow.training.plan import Plan
from pathoflow.training.reporting import peak_flops
from pathoflow.training.steps import StepShares
from pathoflow.training.trainable_weights import prepare_model, trainable_parts

WORDS = ["lesion", "shows", "atypical", "glands", "with", "enlarged", "nuclei", "and", "mitoses", "in", "stroma"]


@dataclass(frozen=True)
class Shape:
    """Dimensions in which Qwen2.5-VL's sizes differ."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool
    vision_depth: int = 32
    vision_hidden: int = 1280
    vision_intermediate: int = 3420
    vision_heads: int = 16
    max_pixels: int = 262_144
    median_words: int = 200


SHAPES = {
    "3b": Shape(2048, 11_008, 36, 16, 2, 151_936, tied=True),
    "7b": Shape(3584, 18_944, 28, 28, 4, 152_064, tied=False),
    "tiny": Shape(64, 192, 2, 4, 2, 640, True, 2, 64, 128, 4, max_pixels=3136, median_words=20),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--samples-per-step", type=int, default=64)
    parser.add_argument("--pack-tokens", type=int, default=16_384)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warm-up-steps", type=int, default=3)
    parser.add_argument("--data-workers", type=int, default=8)
    parser.add_argument("--learn-vision-tower", action="store_true", help="the recipes freeze it")
    parser.add_argument("--liger", action="store_true", help="Liger's kernels")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the language model's layers")
    parser.add_argument("--no-gradient-checkpointing", action="store_true")
    parser.add_argument("--against-trl", type=int, metavar="BATCH", help="also time TRL with batches of this size")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here. Try --device cpu --shape tiny.")
    shape = SHAPES[options.shape]
    rows = build_rows(options.samples_per_step * options.steps, shape)
    processor = new_processor(train_tokenizer([row["text"] for row in rows[:64]], 640), max_pixels=shape.max_pixels)
    with tempfile.TemporaryDirectory() as folder:
        result = _engine(options, shape, rows, processor, Path(folder))
        if options.against_trl:
            result["trl_tokens_per_s"] = _trl(options, shape, rows, processor, Path(folder))
    _show(options, result)


def build_rows(number: int, shape: Shape) -> list[dict[str, Any]]:
    """Builds texts of log-normal length about images of different sizes, most of them larger than the model's limit."""
    rng = np.random.default_rng(0)
    words = np.clip(rng.lognormal(np.log(shape.median_words), 0.8, number), 8, 10 * shape.median_words).astype(int)
    side = int(shape.max_pixels**0.5)
    pictures = [
        encode_jpeg(
            Image.fromarray(rng.integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)).resize(
                (int(side * rng.uniform(0.5, 1.5)), int(side * rng.uniform(0.5, 1.5)))
            )
        )
        for _ in range(min(number, 128))
    ]
    return [
        {"text": " ".join(rng.choice(WORDS, count)), "image": pictures[index % len(pictures)]}
        for index, count in enumerate(words)
    ]


def build_model(
    shape: Shape, tokenizer: Any, device: str, dtype: torch.dtype | None = None
) -> Qwen2_5_VLForConditionalGeneration:
    """Builds a random model of a shape; by default its weights are bfloat16 on GPUs."""
    full_attention = range(shape.vision_depth // 4 - 1, shape.vision_depth, max(1, shape.vision_depth // 4))
    rotary = shape.hidden // shape.heads // 2
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.key_value_heads,
            "max_position_embeddings": 128_000,
            "tie_word_embeddings": shape.tied,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [rotary // 4, rotary * 3 // 8, rotary * 3 // 8],
            },
        },
        vision_config={
            "depth": shape.vision_depth,
            "hidden_size": shape.vision_hidden,
            "intermediate_size": shape.vision_intermediate,
            "num_heads": shape.vision_heads,
            "out_hidden_size": shape.hidden,
            "fullatt_block_indexes": [index for index in full_attention if index >= 0],
        },
        tie_word_embeddings=shape.tied,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_PAD),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO_PAD),
        vision_start_token_id=tokenizer.convert_tokens_to_ids(VISION_START),
        vision_end_token_id=tokenizer.convert_tokens_to_ids(VISION_END),
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype or (torch.bfloat16 if device == "cuda" else torch.float32))
    try:
        with torch.device(device):
            return Qwen2_5_VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)


def sample_of(row: dict[str, Any], processor: Qwen2_5_VLProcessor) -> Sample:
    messages = [*prompt_messages("Describe.", "short"), text_message("assistant", row["text"])]
    return encoding.conversation(messages, [row["image"]], processor)


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Starts the clock after the warm-up and stops it at the end."""

    def __init__(self, warm_up_steps: int) -> None:
        self._warm_up_steps = warm_up_steps
        self.trainer: PackTrainer | None = None
        self._began = 0.0
        self._before: dict[str, float] = {}
        self.measured: dict[str, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        assert self.trainer is not None
        if state.global_step not in (self._warm_up_steps, state.max_steps):
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now, meter = time.perf_counter(), asdict(self.trainer.meter)
        if state.global_step == self._warm_up_steps:
            self._began, self._before = now, meter
        else:
            self.measured = {name: meter[name] - self._before[name] for name in meter}
            self.measured["elapsed_s"] = now - self._began


def _engine(
    options: argparse.Namespace,
    shape: Shape,
    rows: list[dict[str, Any]],
    processor: Qwen2_5_VLProcessor,
    folder: Path,
) -> dict[str, Any]:
    config = SftConfig(
        freeze_vision_tower=not options.learn_vision_tower,
        batch_size_per_process=options.samples_per_step,
        max_length_tokens=options.pack_tokens,
        pack_tokens=options.pack_tokens,
        bf16=options.device == "cuda",
        gradient_checkpointing=not options.no_gradient_checkpointing,
        liger_kernels=options.liger,
        torch_compile=options.compile,
        data_workers=options.data_workers,
        log_every_steps=1,
        save_every_steps=10_000,
    )
    model = prepare_model(build_model(shape, processor.tokenizer, options.device), config)
    encoder = Encoder(processor)
    all_samples = [sample_of(row, processor) for row in rows]
    measured = encoder.measure(all_samples)
    measures = SampleLengths(
        np.array([length for length, _ in measured]),
        np.array([sample_cost(model.config, length, patches) for length, patches in measured]),
    )
    plan = plan_steps(config, np.arange(len(rows)), measures, 1)
    shares = StepShares(plan, all_samples.__getitem__, encoder)
    clock = _Clock(options.warm_up_steps)
    trainer = PackTrainer(shares, model=model, args=pack_arguments(config, folder / "engine", plan), callbacks=[clock])
    trainer.args.save_strategy = "no"
    clock.trainer = trainer
    trainer.train()
    flops = _flops_of_a_step(model, plan, encoder, all_samples)
    peak = peak_flops(config)
    done = clock.measured
    return {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "shape": options.shape,
        "parameters": model.num_parameters(),
        "attention": model.config.text_config._attn_implementation,
        "options": {name: str(value) for name, value in vars(options).items()},
        "mean_tokens": float(measures.tokens.mean()),
        "tokens_per_s": done["num_tokens"] / done["elapsed_s"],
        "step_s": done["elapsed_s"] / (options.steps - options.warm_up_steps),
        "tflops_per_s": done["flops"] / done["elapsed_s"] / 1e12,
        "mfu": done["flops"] / done["elapsed_s"] / peak if peak else None,
        "data_wait_share": done["data_wait_s"] / done["elapsed_s"],
        "filler_share": 1 - done["num_tokens"] / done["num_computed"],
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30 if options.device == "cuda" else None,
        "tflops_of_a_step": {part: getattr(flops, part) / 1e12 for part in ("vision", "merger", "language", "head")},
    }


def _flops_of_a_step(model: Any, plan: Plan, encoder: Encoder, all_samples: list[Sample]) -> Flops:
    encoded = [encoder.encode(all_samples[number]) for number in plan.samples(0)]
    grids = [grid for sample in encoded for grid in sample["image_grid_thw"].tolist()]
    num_targets = sum(int((sample["labels"][1:] != encoding.IGNORED).sum()) for sample in encoded)
    lengths = [len(sample["input_ids"]) for sample in encoded]
    return training_flops(forward_flops(model.config, lengths, grids, num_targets), **trainable_parts(model))


def _trl(
    options: argparse.Namespace,
    shape: Shape,
    rows: list[dict[str, Any]],
    processor: Qwen2_5_VLProcessor,
    folder: Path,
) -> float:
    """Measures tokens a second of TRL's SFTTrainer on the same samples, padded, with as many samples a step."""
    from bench.train_throughput import trl_trainer

    model = build_model(shape, processor.tokenizer, options.device)
    if not options.learn_vision_tower:
        for weight in set(model.model.visual.parameters()) - set(model.model.visual.merger.parameters()):
            weight.requires_grad_(False)
    passes = max(1, options.samples_per_step // options.against_trl)
    samples_per_step = passes * options.against_trl
    num_steps = max(options.warm_up_steps + 2, options.steps // 2)
    rows = rows[: samples_per_step * num_steps]
    lengths = [length for length, _ in Encoder(processor).measure([sample_of(row, processor) for row in rows])]
    trainer = trl_trainer(
        rows,
        processor,
        model,
        folder / "trl",
        per_device_train_batch_size=options.against_trl,
        gradient_accumulation_steps=passes,
        bf16=options.device == "cuda",
        activation_checkpointing=not options.no_gradient_checkpointing,
        dataloader_num_workers=options.data_workers,
        use_liger_kernel=options.liger,
        use_cpu=options.device == "cpu",
    )
    clock = _StepEnds()
    trainer.add_callback(clock)
    trainer.train()
    # As with the engine: what comes before the warm-up's end, data workers' start included, does not count.
    seconds = clock.ends[-1] - clock.ends[options.warm_up_steps - 1]
    measured = len(clock.ends) - options.warm_up_steps
    return float(statistics.fmean(lengths) * samples_per_step * measured / seconds)


class _StepEnds(TrainerCallback):  # type: ignore[misc]
    """Records when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def _show(options: argparse.Namespace, result: dict[str, Any]) -> None:
    total = sum(result["tflops_of_a_step"].values())
    for part, tflops in result["tflops_of_a_step"].items():
        print(f"{part:10} {tflops:12.4f} TFLOP a step {tflops / total:8.1%}")
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    on_gpu = options.device == "cuda"
    figures = [
        Figure("data wait", result["data_wait_share"] * 100, "% of the time", "a bar we set", 2 if on_gpu else 100),
        Figure("fillers", result["filler_share"] * 100, "% of the tokens", "a bar we set", 1 if on_gpu else 100),
    ]
    if result["mfu"] is not None:
        peer = "dense bfloat16 peak of the device"
        figures.append(Figure("MFU", result["mfu"] * 100, "%", peer, 50, higher_is_better=True))
    if "trl_tokens_per_s" in result:
        ratio = result["tokens_per_s"] / result["trl_tokens_per_s"]
        figures.append(Figure("tokens a second", ratio, "x", "TRL SFTTrainer, padded", 2, higher_is_better=True))
    conclude(f"Training on one {result['device']}, {options.shape}", figures)


if __name__ == "__main__":
    main()
