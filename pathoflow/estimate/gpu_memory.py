"""Estimates one GPU's memory in each phase of a stage that could be its peak, part by part.

Counted are, by the layout of the weights:

- `deepspeed_stage: 0`: weights and gradients in float32, Adam's two moments of what learns. With several processes
  DistributedDataParallel holds the gradients a second time, in its buckets. bfloat16 is autocast: copies of the weights
  that live as long as the forward pass.
- DeepSpeed: weights and gradients in bfloat16, with float32 masters and moments beside them. Stage 2 divides gradients,
  masters and moments among the processes, stage 3 the weights, too (Rajbhandari et al. 2020, "ZeRO", figure 1).
  Its buckets are those of DeepSpeed's defaults, which the engine keeps: `_BUCKET` numbers, twice in stage 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pathoflow.estimate.activations import Precision

PARTS = ("weights", "gradients", "optimizer", "reference", "buffers", "activations", "logits", "kv_cache", "runtime")
"""In the order in which they are shown."""

# DeepSpeed 0.19, zero/config.py: reduce_bucket_size, stage3_max_live_parameters and sub_group_size, in numbers.
_BUCKET = 500_000_000
_LIVE = 1_000_000_000
_SUB_GROUP = 1_000_000_000


@dataclass(frozen=True)
class Phase:
    """Memory of a stage at one moment.

    Attributes:
        name: Name of the moment.
        parts: Bytes by part.
    """

    name: str
    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        """Bytes of all parts."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Weights:
    """Layout of a model's weights during training.

    Attributes:
        learning: Parameters that learn, adapters included.
        frozen: Parameters that do not.
        largest: Parameters of the largest tensor, the embedding: it is gathered whole, and so is its gradient.
        layer: Parameters of one layer of the language model.
        tied: Whether the embedding is the head, too.
        deepspeed_stage: ZeRO's stage; 0 is plain data parallelism.
        processes: Number of processes that share what is divided.
        bf16: Whether the model computes in bfloat16.
        offload: `none`, `optimizer` or `all`, see `TrainingConfig.offload`.
        reference: Whether a second, frozen copy stands beside it.
        resident: Whether memory that nothing was written to counts: on GPUs it does.
    """

    learning: int
    frozen: int
    largest: int
    layer: int
    tied: bool
    deepspeed_stage: int = 0
    processes: int = 1
    bf16: bool = True
    offload: str = "none"
    reference: bool = False
    resident: bool = True

    @property
    def precision(self) -> Precision:
        """The number formats in which it computes."""
        return Precision.of(bf16=self.bf16, deepspeed=self.deepspeed_stage > 0)

    @property
    def weight_bytes(self) -> int:
        """Bytes of one weight in the model itself."""
        return 2 if self.bf16 and self.deepspeed_stage else 4

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.learning + self.frozen

    def _divided(self, from_stage: int) -> int:
        return self.processes if self.deepspeed_stage >= from_stage else 1

    def model(self) -> float:
        """Bytes of the weights on one GPU."""
        if self.offload == "all":
            return 0.0
        return self.weight_bytes * self.parameters / self._divided(3)

    def gathered(self) -> float:
        """Bytes of the weights that are whole for a moment under stage 3: what DeepSpeed keeps alive at most."""
        return self.weight_bytes * min(_LIVE, self.parameters) if self.deepspeed_stage == 3 else 0.0

    def gradients(self) -> float:
        """Bytes of the gradients once all are there."""
        if self.offload != "none":
            return 0.0
        return self.weight_bytes * self.learning / self._divided(2)

    def optimizer(self) -> float:
        """Bytes of Adam's moments, and under DeepSpeed of the masters."""
        if self.offload != "none":
            return 0.0
        return (8 + 4 * (self.deepspeed_stage > 0)) * self.learning / self._divided(2)

    def buckets(self) -> float:
        """Bytes of what gradients are sent in; it stays from the first backward pass on."""
        if self.deepspeed_stage == 0:
            return 4.0 * self.learning if self.processes > 1 else 0.0
        if not self.resident:
            return float(min(_BUCKET, self.learning) * self.weight_bytes)
        return (2 if self.deepspeed_stage == 2 else 1) * _BUCKET * self.weight_bytes

    def reducing(self) -> float:
        """Bytes beside a bucket while it is reduced under stage 3, which sorts it into one copy for all processes.

        Gloo, on CPUs, reduces another copy of that. Source: DeepSpeed 0.19, `reduce_scatter_coalesced`.
        """
        if self.deepspeed_stage < 3:
            return 0.0
        return float((1 if self.resident else 2) * min(_BUCKET, self.learning) * self.weight_bytes)

    def second_model(self) -> float:
        """Bytes of the reference model, which only stage 3 divides (TRL's `prepare_deepspeed`)."""
        return self.reference * self.weight_bytes * self.parameters / self._divided(3)

    def casts(self, *, checkpointed: bool) -> float:
        """Bytes of autocast's copies: of weights that learn until the forward pass ends, of others until they are used.

        Without checkpointing the backward pass needs all of them.
        """
        if not self.precision.casts:
            return 0.0
        used = min(max(self.layer, self.largest), self.frozen)
        return 2.0 * (self.learning + used if checkpointed else self.parameters)

    def base(self) -> dict[str, float]:
        """Returns the parts that are in memory all the time."""
        return {
            "weights": self.model(),
            "optimizer": self.optimizer(),
            "reference": self.second_model(),
            "buffers": self.buckets(),
        }


@dataclass(frozen=True)
class TrainingPass:
    """Memory that one forward and backward pass adds.

    Attributes:
        kept: Bytes that the forward pass leaves behind.
        passing: Bytes beside them while the last layer is gone back through.
        logits: Bytes of the largest buffers of the loss.
        inputs: Bytes of batches on the device.
        checkpointed: Whether activations are recomputed.
        repeated: Whether gradients of earlier passes are there already.
    """

    kept: float
    passing: float
    logits: float
    inputs: float = 0.0
    checkpointed: bool = True
    repeated: bool = False


def training_phases(weights: Weights, work: TrainingPass) -> list[Phase]:
    """Estimates the end of the forward pass, the end of the backward pass and the optimiser's step."""
    base = weights.base()
    # The embedding's gradient stands beside the head's before the two become one.
    embedding = weights.weight_bytes * weights.largest if weights.learning > weights.largest else 0
    # Stage 3 keeps a place for them, stage 2 frees them after each step.
    earlier = weights.gradients() if work.repeated or weights.deepspeed_stage == 3 else 0.0
    copies = weights.casts(checkpointed=work.checkpointed) + weights.gathered()
    forward = base | {
        "gradients": earlier,
        "buffers": base["buffers"] + copies,
        "activations": work.kept + work.inputs + max(0.0, work.passing - work.logits),
        "logits": work.logits,
    }
    backward = base | {
        "gradients": weights.gradients() + embedding * (1 + weights.tied) / 2,
        "buffers": base["buffers"] + weights.gathered() + weights.reducing(),
        "activations": work.passing + work.inputs,
    }
    step = base | {"gradients": weights.gradients() + _step(weights), "activations": work.inputs}
    return [Phase("forward pass", forward), Phase("backward pass", backward), Phase("optimiser's step", step)]


def _step(weights: Weights) -> float:
    """Returns the bytes of the gradients that DeepSpeed turns into float32 for its step."""
    if weights.deepspeed_stage == 0 or weights.offload != "none":
        return 0.0
    share = weights.learning / weights.processes
    return 4.0 * (min(share, _SUB_GROUP) if weights.deepspeed_stage == 3 else share)


@dataclass(frozen=True)
class Generation:
    """Memory that answering a batch of prompts takes.

    Attributes:
        cache: Bytes of keys and values at the longest.
        layers: Among which the cache is divided: one layer's is there twice while a token is added to it.
        prefill: Bytes alive while the prompts are read.
        logits: Bytes of the vocabulary's scores of one token of each sequence.
        prompts: Share of the cache that is there once the prompts are read.
    """

    cache: float
    layers: int
    prefill: float
    logits: float
    prompts: float
    inputs: float = 0.0


def generation_phases(base: Mapping[str, float], whole: float, answers: Generation) -> list[Phase]:
    """Estimates reading the prompts, and the last token.

    Args:
        base: Parts that are in memory all the time.
        whole: Bytes of the weights that are gathered for it (ZeRO-3), or of autocast's copies.
        answers: Memory of the batch.
    """
    held = dict(base) | {"buffers": base.get("buffers", 0.0) + whole}
    start = {
        "kv_cache": answers.cache * answers.prompts,
        "activations": answers.prefill + answers.inputs,
    }
    end = {
        "kv_cache": answers.cache * (1 + 1 / answers.layers),
        "logits": answers.logits,
        "activations": answers.inputs,
    }
    return [Phase("prompts read", held | start), Phase("last token generated", held | end)]


@dataclass(frozen=True)
class Runtime:
    """Memory that a GPU process takes beside its tensors; assumptions, which `bench.gpu.estimate` can correct.

    Attributes:
        fixed: Bytes of CUDA's context, cuBLAS's workspaces and NCCL's channels.
        fragmentation: Share of what comes and goes that the caching allocator cannot use.
    """

    fixed: float = 1.5 * 2**30
    fragmentation: float = 0.05
    coming_and_going: tuple[str, ...] = field(default=("activations", "logits", "kv_cache", "buffers"))

    def on(self, phase: Phase) -> Phase:
        """Returns the phase with this added."""
        moving = sum(phase.parts.get(part, 0.0) for part in self.coming_and_going)
        return Phase(phase.name, dict(phase.parts) | {"runtime": self.fixed + self.fragmentation * moving})


def peak_phase(phases: list[Phase]) -> Phase:
    """Returns the phase that needs most."""
    return max(phases, key=lambda phase: phase.total)
