"""Estimates each of a recipe's stages that train or evaluate a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pathoflow.contract.recipe import Compute, Recipe
from pathoflow.errors import InputError
from pathoflow.estimate import clip_memory, compute_time, fine_tuning_memory, host_memory, rl_memory
from pathoflow.estimate.activations import Precision
from pathoflow.estimate.data_sizes import PIXELS_PER_TOKEN, DataSizes
from pathoflow.estimate.devices import Gpu
from pathoflow.estimate.fine_tuning_memory import LargestPack
from pathoflow.estimate.gpu_memory import Phase, Runtime, generation_phases, peak_phase
from pathoflow.estimate.shapes import Clip, VisionLanguage, clip, tiny_clip, tiny_vision_language, vision_language
from pathoflow.estimate.stage_estimate import StageEstimate, bytes_of

TINY = "tiny"
_DEFAULT_SHM = 64 * 2**20
"""Size of /dev/shm in a pod that requests none."""
_CLIP_TEXT_TOKENS = 77
_PASSES = 6
"""Passes of vqa_benchmarks: base, CPT, SFT and RL, the last two on blank images, too."""


@dataclass(frozen=True)
class Assumptions:
    """Values that a recipe does not determine.

    Attributes:
        gpu: The kind of GPU.
        data: Numbers and lengths of the samples.
        mfu: Share of the GPU's peak that training reaches, recomputation not counted.
        runtime: Memory of a GPU process beside its tensors.
    """

    gpu: Gpu
    data: DataSizes
    mfu: float = 0.4
    runtime: Runtime = field(default=Runtime())


def estimate(recipe: Recipe, assumptions: Assumptions) -> list[StageEstimate]:
    """Estimates each stage that trains or evaluates a model, in the catalogue's order.

    Raises:
        InputError: A model is neither a known one nor in a folder.
    """
    return [estimate_stage(recipe, stage, assumptions) for stage in recipe.stages if stage in _STAGES]


def estimate_stage(recipe: Recipe, stage: str, assumptions: Assumptions) -> StageEstimate:
    """Estimates one stage.

    Raises:
        InputError: Its model is neither a known one nor in a folder.
    """
    return _STAGES[stage](_StageRequest(recipe, stage, assumptions))


class _StageRequest:
    """Stage of a recipe on the assumed machine."""

    def __init__(self, recipe: Recipe, stage: str, assumptions: Assumptions) -> None:
        self.recipe, self.stage, self.assumptions = recipe, stage, assumptions
        self.config: Any = recipe.stages[stage]
        self.compute: Compute = recipe.compute[stage]
        self.data = assumptions.data
        self.on_gpu = bool(self.compute.gpus_per_node) or getattr(self.config, "needs_gpus", False)
        processes = getattr(self.config, "num_processes", 1)
        self.gpus = processes if self.on_gpu else 0
        self.processes = max(1, processes // self.compute.nodes)

    def vision_language(self) -> tuple[str, VisionLanguage]:
        """Returns the name and the shape of the model that goes from stage to stage, which cpt names."""
        cpt: Any = self.recipe.stages.get("cpt")
        if cpt is None:
            raise InputError(f"{self.stage} takes the model of cpt, which recipe {self.recipe.name} has no file for.")
        if cpt.model is None:
            built: Any = self.recipe.stages["base_model"]
            return TINY, tiny_vision_language(built.shape)
        return cpt.model, vision_language(cpt.model)

    @property
    def image_tokens(self) -> int:
        """Tokens of an image of the largest size allowed."""
        pixels = getattr(self.config, "max_pixels", None) or self.recipe.stages["cpt"].max_pixels  # type: ignore[attr-defined]
        return int(pixels // PIXELS_PER_TOKEN)

    def training_s(self, flops: float) -> float | None:
        """Returns the seconds that the operations take on all GPUs, at float32's peak without bf16."""
        if not self.gpus:
            return None
        gpu = self.assumptions.gpu
        peak = gpu.tflops if getattr(self.config, "bf16", False) else gpu.float32_tflops
        return flops / (self.gpus * peak * 1e12 * self.assumptions.mfu)

    def estimate(
        self,
        phases: list[Phase],
        *,
        model: str,
        parameters: int,
        learning: int,
        host_parts: Mapping[str, float],
        shm: float,
        disk: Mapping[str, float],
        flops: float,
        seconds: float | None,
        basis: str,
    ) -> StageEstimate:
        """Builds the estimate, with the limits of the recipe and the machine."""
        parts = dict(host_parts)
        if self.on_gpu:
            phases = [self.assumptions.runtime.on(phase) for phase in phases]
        else:
            parts["model and activations"] = self.processes * peak_phase(phases).total
        in_pod = self.compute.memory is not None
        return StageEstimate(
            stage=self.stage,
            model=model,
            parameters=parameters,
            learning=learning,
            gpus=self.gpus,
            phases=tuple(phases),
            gpu_limit=self.assumptions.gpu.memory if self.on_gpu else None,
            host=parts,
            host_limit=bytes_of(self.compute.memory) if self.compute.memory else None,
            shm=shm,
            shm_limit=(bytes_of(self.compute.shm) if self.compute.shm else _DEFAULT_SHM) if in_pod else None,
            disk=disk,
            flops=flops,
            seconds=seconds,
            deadline=self.compute.deadline_s,
            basis=basis,
        )


def _learns(config: Any) -> dict[str, bool]:
    return {
        "vision": not config.freeze_vision_tower,
        "merger": not config.freeze_merger,
        "language": not config.freeze_language_model,
    }


def _sample_flops(config: Any, shape: VisionLanguage, sample: compute_time.Sample) -> float:
    if getattr(config, "lora_rank", None):
        return compute_time.adapter_training(shape, sample)
    return compute_time.training(shape, sample, **_learns(config))


def _fine_tuning(
    request: _StageRequest, sample: compute_time.Sample, num_samples: int, *, models: int
) -> StageEstimate:
    config, (name, shape) = request.config, request.vision_language()
    per_process = config.batch_size_per_process * config.gradient_accumulation_steps
    tokens = min(config.pack_tokens, per_process * config.max_length_tokens)
    # Packs are as full of images as samples are.
    share = sample.image_tokens / sample.tokens
    repeated = config.gradient_accumulation_steps > 1 or per_process * sample.tokens > config.pack_tokens
    pack = LargestPack(tokens, tokens * share, tokens * sample.targets / sample.tokens, repeated)
    phases = fine_tuning_memory.phases(config, shape, pack, on_gpu=request.on_gpu)
    weights = fine_tuning_memory.weights_of(config, shape, on_gpu=request.on_gpu)
    step = per_process * sample.image_tokens * shape.vision_config.spatial_merge_size**2
    batch = float(step * shape.vision_config.patch_values * 4)
    num_learned = num_samples * config.epochs
    if config.max_steps:
        num_learned = config.max_steps * per_process * config.num_processes
    flops = num_learned * _sample_flops(config, shape, sample)
    seconds = request.training_s(flops)
    if getattr(config, "dev_questions", 0):
        more, took = _dev_evaluations(request, shape, num_learned / (per_process * config.num_processes))
        phases += more
        seconds = None if seconds is None else seconds + took
    return request.estimate(
        phases,
        model=name,
        parameters=weights.parameters,
        learning=weights.learning,
        host_parts=host_memory.training_parts(config, weights, request.processes, on_gpu=request.on_gpu, batch=batch),
        shm=host_memory.shm_bytes(config, request.processes, batch),
        disk=host_memory.training_disk(
            config, weights, models=models, data=float(num_samples * request.data.image_bytes)
        ),
        flops=flops,
        seconds=seconds,
        basis=f"{num_learned:,.0f} samples of {sample.image_tokens} + {sample.text_tokens} tokens; packs of {tokens:,}",
    )


def _dev_evaluations(request: _StageRequest, shape: VisionLanguage, num_steps: float) -> tuple[list[Phase], float]:
    """Returns the phases and seconds of sft's dev questions."""
    config = request.config
    per_process = -(-config.dev_questions // config.num_processes)
    sequences = min(per_process, config.dev_batch_size)
    weights = fine_tuning_memory.weights_of(config, shape, on_gpu=request.on_gpu)
    prompt = request.image_tokens + request.data.prompt_tokens
    answers = fine_tuning_memory.generation_cost(
        shape,
        sequences=sequences,
        prompt=prompt,
        image_tokens=request.image_tokens,
        new_tokens=config.max_response_tokens,
        precision=weights.precision,
    )
    phases = fine_tuning_memory.dev_evaluation_phases(config, shape, answers, on_gpu=request.on_gpu)
    rounds = num_steps / config.dev_every_steps * -(-per_process // sequences)
    return phases, rounds * config.max_response_tokens * _token_s(request, shape, answers.cache)


def _token_s(request: _StageRequest, shape: VisionLanguage, cache: float) -> float:
    layers = shape.text_config.num_hidden_layers
    return compute_time.token_s(layers, 2.0 * shape.parameters, cache, request.assumptions.gpu.bandwidth)


def _cpt(request: _StageRequest) -> StageEstimate:
    captions = request.data.caption_tokens
    # A model from the hub is written beside the trained one.
    return _fine_tuning(
        request, compute_time.Sample(request.image_tokens, captions, captions), request.data.pairs, models=2
    )


def _sft(request: _StageRequest) -> StageEstimate:
    data = request.data
    text = max(16, min(data.reasoning_tokens, request.config.max_length_tokens - request.image_tokens))
    targets = min(text, data.response_tokens)
    return _fine_tuning(request, compute_time.Sample(request.image_tokens, text, targets), data.samples, models=1)


def _rl(request: _StageRequest) -> StageEstimate:
    config, data, (name, shape) = request.config, request.data, request.vision_language()
    prompt = min(config.max_length_tokens, request.image_tokens + data.prompt_tokens)
    rollouts = rl_memory.Rollouts(prompt, request.image_tokens, config.max_completion_tokens, data.dev_questions)
    phases = rl_memory.phases(config, shape, rollouts, on_gpu=request.on_gpu)
    weights = fine_tuning_memory.weights_of(config, shape, on_gpu=request.on_gpu)
    mean = int(config.max_completion_tokens * data.completion_share)
    sample = compute_time.Sample(request.image_tokens, prompt - request.image_tokens + mean, mean)
    steps = config.max_steps or config.epochs * data.questions / config.prompts_per_step
    completions = steps * config.completions_per_step
    # Scored by the model as it was, and by the reference.
    scorings = (config.steps_per_generation > 1) + (config.beta > 0)
    flops = completions * (_sample_flops(config, shape, sample) + scorings * compute_time.forward(shape, sample).total)
    at_once = rl_memory.completions_at_once(config)
    value_bytes = 2 * shape.kv_values
    rounds_s = config.max_completion_tokens * _token_s(request, shape, at_once * (prompt + mean) * value_bytes)
    seconds = request.training_s(flops)
    if seconds is not None:
        seconds += steps / config.steps_per_generation * rounds_s
    rows = float(data.questions * data.image_bytes)
    parts = host_memory.training_parts(config, weights, request.processes, on_gpu=request.on_gpu, batch=0.0)
    return request.estimate(
        phases,
        model=name,
        parameters=weights.parameters,
        learning=weights.learning,
        # Each process keeps the rows that it has read.
        host_parts=parts | {"questions": request.processes * rows},
        shm=host_memory.shm_bytes(config, request.processes, 0.0),
        disk=host_memory.training_disk(config, weights, models=3, data=rows),
        flops=flops,
        seconds=seconds,
        basis=f"{steps:,.0f} steps of {config.completions_per_step} completions, {at_once} sampled at once by each "
        f"process; prompts of {prompt} tokens, completions of {mean} on average",
    )


def _pathoclip(request: _StageRequest) -> StageEstimate:
    config, data = request.config, request.data
    shape: Clip = tiny_clip(config.tiny) if config.model == TINY else clip(config.model)
    text = min(shape.text.num_tokens, _CLIP_TEXT_TOKENS)
    phases = clip_memory.phases(shape, config.batch_size, text)
    flops = config.num_steps * config.batch_size * compute_time.clip_training(shape, text)
    process = host_memory.training_process(on_gpu=request.on_gpu)
    parameters = shape.parameters
    return request.estimate(
        phases,
        model=config.model,
        parameters=parameters,
        learning=parameters,
        host_parts={"processes": process, "images": clip_memory.host_bytes(shape, data.pairs)},
        shm=0.0,
        disk={
            "checkpoints": 2 * 12.0 * parameters,
            "models": 4.0 * parameters,
            "data": float(data.pairs * data.image_bytes),
        },
        flops=flops,
        seconds=request.training_s(flops),
        basis=f"{config.num_steps:,} steps of {config.batch_size} pairs, "
        f"which is {config.num_steps * config.batch_size / data.pairs:.2g} times {data.pairs:,}",
    )


def _vqa_benchmarks(request: _StageRequest) -> StageEstimate:
    config, data, (name, shape) = request.config, request.data, request.vision_language()
    number_bytes = 2 if config.precision == "bfloat16" else 4
    precision = Precision(number_bytes, number_bytes)
    items = min(data.heldout_questions, config.max_items)
    sequences = min(config.batch_size, items)
    prompt = request.image_tokens + data.prompt_tokens
    answers = fine_tuning_memory.generation_cost(
        shape,
        sequences=sequences,
        prompt=prompt,
        image_tokens=request.image_tokens,
        new_tokens=config.max_new_tokens,
        precision=precision,
    )
    weights = float(number_bytes * shape.parameters)
    phases = generation_phases({"weights": weights}, 0.0, answers)
    # The one before is let go when the next is there.
    phases.append(Phase("next model loaded", {"weights": 2 * weights}))
    passes = _PASSES
    rounds = passes * -(-items // sequences) / config.num_processes
    sample = compute_time.Sample(
        request.image_tokens, data.prompt_tokens + config.max_new_tokens, config.max_new_tokens
    )
    seconds = rounds * config.max_new_tokens * _token_s(request, shape, answers.cache) if request.gpus else None
    return request.estimate(
        phases,
        model=name,
        parameters=shape.parameters,
        learning=0,
        host_parts={
            "processes": request.processes * host_memory.training_process(on_gpu=request.on_gpu),
            # Each of the processes, which do not know of each other, loads it on its own.
            "loading or saving": request.processes * weights if request.on_gpu else 0.0,
        },
        shm=0.0,
        disk={"models": passes * weights},
        flops=passes * items * compute_time.forward(shape, sample).total,
        seconds=seconds,
        basis=f"{passes} passes over {items:,} questions, {sequences} at once; up to {config.max_new_tokens} tokens",
    )


_STAGES: dict[str, Callable[[_StageRequest], StageEstimate]] = {
    "cpt": _cpt,
    "sft": _sft,
    "rl": _rl,
    "pathoclip": _pathoclip,
    "vqa_benchmarks": _vqa_benchmarks,
}
