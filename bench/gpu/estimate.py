"""Compares `pathoflow estimate`'s memory with what CUDA's allocator counts, on one GPU.

`python -m bench.gpu.estimate --shape 3b --out estimate.json`. The models have the shapes of Qwen2.5-VL and CLIP and
random weights, so nothing is downloaded. Needed is what `bench.gpu.train_throughput` needs, and peft for the adapters.
`--device cpu --shape tiny` tries the script out; there the process's resident memory is what is measured.

The estimate is compared with the peak of allocated memory, without the part `runtime`, which is an assumption: what the
process takes beside its tensors is printed for each case, to correct it by.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

from bench.estimate_run import resident, start_counting
from bench.gpu.train_throughput import SHAPES, build_model, build_rows, sample_of
from bench.report import Figure, conclude
from components.training.pathoclip.contrastive import contrastive_loss
from components.training.sft.config import SftConfig
from pathoflow.estimate import clip_memory, fine_tuning_memory
from pathoflow.estimate.activations import Precision
from pathoflow.estimate.gpu_memory import Phase, generation_phases, peak_phase
from pathoflow.estimate.shapes import CLIP, Clip, Text, Tower, Vision, VisionLanguage
from pathoflow.modeling.encoding import IGNORED, Encoder
from pathoflow.modeling.flops import sample_cost
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.training.engine import PackTrainer, pack_arguments, plan_steps
from pathoflow.training.lengths import SampleLengths
from pathoflow.training.steps import StepShares
from pathoflow.training.trainable_weights import prepare_model

_NUM_STEPS = 2
_TINY_CLIP = Clip(Tower(128, 512, 4, 4, 65), Tower(64, 256, 2, 4, 77), 1000, 64, 112, 14)
_TRAININGS: dict[str, dict[str, Any]] = {
    "LoRA, recomputed": {"lora_rank": 8, "freeze_merger": True},
    "LoRA, kept": {"lora_rank": 8, "freeze_merger": True, "gradient_checkpointing": False, "pack_tokens": 4096},
    "vision tower frozen, recomputed": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--samples-per-step", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=64, help="batch of the CLIP")
    parser.add_argument("--sequences", type=int, default=32, help="prompts that are answered at once")
    parser.add_argument("--new-tokens", type=int, default=512, help="tokens of an answer")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here. Try --device cpu --shape tiny.")
    cases: dict[str, Callable[[], list[Phase]]] = {
        name: partial(_fine_tuning, options, values) for name, values in _TRAININGS.items()
    }
    cases |= {"generation": partial(_generation, options), "pathoclip": partial(_pathoclip, options)}
    results = [_compared(name, options, run) for name, run in cases.items()]
    if options.out:
        options.out.write_text(json.dumps({"device": _device(options), "results": results}, indent=2) + "\n")
    # A tiny model on a CPU is no measurement: what a process has anyway outweighs it.
    goal = 20 if options.device == "cuda" else 1e12
    figures = [
        Figure(f"memory estimate, {r['name']}", r["off_percent"], "% off", "measured peak", goal) for r in results
    ]
    conclude(f"Peak of memory on one {_device(options)}, {options.shape}", figures)


def _device(options: argparse.Namespace) -> str:
    return torch.cuda.get_device_name() if options.device == "cuda" else "cpu"


def _compared(name: str, options: argparse.Namespace, run: Callable[[], list[Phase]]) -> dict[str, Any]:
    """Runs one case and compares its estimate with its peak."""
    gc.collect()
    on_gpu = options.device == "cuda"
    before = 0 if on_gpu else start_counting()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    phase = peak_phase(run())
    measured = torch.cuda.max_memory_allocated() if on_gpu else resident("VmHWM") - before
    beside = None
    if on_gpu:
        free, total = torch.cuda.mem_get_info()
        beside = total - free - torch.cuda.memory_reserved()
    print(f"{name}: estimated {phase.total / 2**30:.2f} GiB ({phase.name}), measured {measured / 2**30:.2f} GiB")
    return {
        "name": name,
        "estimated_bytes": phase.total,
        "parts": dict(phase.parts),
        "moment": phase.name,
        "measured_bytes": measured,
        "reserved_bytes": torch.cuda.max_memory_reserved() if on_gpu else None,
        "beside_bytes": beside,
        "off_percent": 100 * abs(phase.total / max(measured, 1) - 1),
    }


def _shape(options: argparse.Namespace, vocab_size: int) -> VisionLanguage:
    shape = SHAPES[options.shape]
    text = Text(vocab_size, shape.hidden, shape.intermediate, shape.layers, shape.heads, shape.key_value_heads)
    blocks = (shape.vision_depth - 1,)
    vision = Vision(
        shape.vision_depth, shape.vision_hidden, shape.vision_intermediate, shape.vision_heads, shape.hidden, blocks
    )
    return VisionLanguage(text, vision, shape.tied)


def _processor(options: argparse.Namespace, rows: list[dict[str, Any]]) -> Any:
    tokenizer = train_tokenizer([row["text"] for row in rows[:64]], 640)
    return new_processor(tokenizer, max_pixels=SHAPES[options.shape].max_pixels)


def _fine_tuning(options: argparse.Namespace, values: dict[str, Any]) -> list[Phase]:
    """Runs two steps of the engine, in float32 weights with autocast as a single process trains them."""
    on_gpu = options.device == "cuda"
    rows = build_rows(options.samples_per_step * _NUM_STEPS, SHAPES[options.shape])
    processor = _processor(options, rows)
    settings = {"batch_size_per_process": options.samples_per_step, "max_length_tokens": 4096, "bf16": on_gpu}
    config = SftConfig(**(settings | values))
    model = build_model(SHAPES[options.shape], processor.tokenizer, options.device, torch.float32)
    model = prepare_model(model, config)
    encoder = Encoder(processor)
    samples = [sample_of(row, processor) for row in rows]
    measured = encoder.measure(samples)
    lengths = np.array([length for length, _ in measured])
    costs = np.array([sample_cost(model.config, length, patches) for length, patches in measured])
    plan = plan_steps(config, np.arange(len(rows)), SampleLengths(lengths, costs), 1)
    shares = StepShares(plan, samples.__getitem__, encoder)
    with tempfile.TemporaryDirectory() as folder:
        trainer = PackTrainer(shares, model=model, args=pack_arguments(config, Path(folder), plan))
        trainer.args.save_strategy = "no"
        trainer.train()
    packs = [pack for step in range(plan.num_steps) for pack in plan.packs(step)[0]]
    largest = max(packs, key=lambda pack: int(lengths[pack].sum()))
    encoded = [encoder.encode(samples[number]) for number in largest]
    pack = fine_tuning_memory.LargestPack(
        tokens=float(lengths[largest].sum()),
        image_tokens=sum(float(sample["image_grid_thw"].prod(dim=1).sum()) / 4 for sample in encoded),
        targets=sum(float((sample["labels"] != IGNORED).sum()) for sample in encoded),
        repeated=len(packs) > plan.num_steps,
    )
    shape = _shape(options, model.config.text_config.vocab_size)
    return fine_tuning_memory.phases(config, shape, pack, on_gpu=on_gpu)


def _generation(options: argparse.Namespace) -> list[Phase]:
    """Generates answers of full length, as vqa_benchmarks and rl do."""
    on_gpu = options.device == "cuda"
    rows = build_rows(options.sequences, SHAPES[options.shape])
    processor = _processor(options, rows)
    dtype = torch.bfloat16 if on_gpu else torch.float32
    model = build_model(SHAPES[options.shape], processor.tokenizer, options.device, dtype).eval()
    encoder = Encoder(processor)
    encoded = [encoder.encode(sample_of(row | {"text": ""}, processor)) for row in rows]
    batch = encoder.batch(encoded, left=True)
    inputs = {key: value.to(options.device) for key, value in batch.items() if key not in ("labels", "weights")}
    with torch.no_grad():
        model.generate(**inputs, do_sample=False, min_new_tokens=options.new_tokens, max_new_tokens=options.new_tokens)
    image_tokens = int(inputs["image_grid_thw"].prod(dim=1).float().mean()) // 4
    shape = _shape(options, model.config.text_config.vocab_size)
    precision = Precision(dtype.itemsize, dtype.itemsize)
    answers = fine_tuning_memory.generation_cost(
        shape,
        sequences=options.sequences,
        prompt=inputs["input_ids"].shape[1],
        image_tokens=image_tokens,
        new_tokens=options.new_tokens,
        precision=precision,
    )
    return generation_phases({"weights": float(dtype.itemsize * shape.parameters)}, 0.0, answers)


def _pathoclip(options: argparse.Namespace) -> list[Phase]:
    """Runs two steps of ViT-L/14 in float32, whose loss is the stage's own."""
    shape = CLIP["openai/clip-vit-large-patch14"] if options.shape != "tiny" else _TINY_CLIP
    model = CLIPModel(_clip_configuration(shape)).to(options.device)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(_NUM_STEPS):
        pixels = torch.randn(options.pairs, 3, shape.image_size, shape.image_size, device=options.device)
        tokens = torch.randint(3, shape.vocab_size, (options.pairs, shape.text.num_tokens), device=options.device)
        loss = contrastive_loss(
            model(input_ids=tokens, pixel_values=pixels).logits_per_image,
            torch.arange(options.pairs, device=options.device),
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return clip_memory.phases(shape, options.pairs, shape.text.num_tokens)


def _clip_configuration(shape: Clip) -> CLIPConfig:
    def tower(part: Tower) -> dict[str, int]:
        sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        return {size: getattr(part, size) for size in sizes}

    return CLIPConfig(
        text_config=tower(shape.text)
        | {"vocab_size": shape.vocab_size, "max_position_embeddings": shape.text.num_tokens, "eos_token_id": 2},
        vision_config=tower(shape.vision) | {"image_size": shape.image_size, "patch_size": shape.patch_size},
        projection_dim=shape.projection_dim,
    )


if __name__ == "__main__":
    main()
