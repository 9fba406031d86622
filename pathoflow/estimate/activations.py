"""Counts the bytes that a forward pass keeps for the backward pass, tensor by tensor as the modules save them.

The counts follow transformers 5.23's Qwen2.5-VL and CLIP: the tensors that autograd keeps of each operation, and
temporaries beside them. `T` tokens of width `h` in `c` bytes each are `T h c` bytes. Tensors that do not grow with
tokens times width are left out: masks, rotary positions, the kernel's log-sum-exps.
"""

from __future__ import annotations

from dataclasses import dataclass

from pathoflow.estimate.shapes import Clip, Text, Tower, Vision

ROWS_AT_A_TIME = 4096
"""Positions whose logits are in memory together, see `modeling.qwen2_5_vl`."""
_TRL_TILE = (4096, 32_768)
"""Positions and vocabulary entries of a tile of logits. Source: TRL 1.16, `kernels/chunked_logprob.py`."""


@dataclass(frozen=True)
class Precision:
    """Number formats in which a model computes.

    Attributes:
        compute: Bytes of a number in matrix products.
        residual: Bytes of a number between layers.
        casts: Whether each matrix product makes its own copy of its input (autocast).
    """

    compute: int
    residual: int
    casts: bool = False

    @classmethod
    def of(cls, *, bf16: bool, deepspeed: bool) -> Precision:
        """Returns those of a training: DeepSpeed turns weights into bfloat16, the Trainer computes by autocast."""
        if not bf16:
            return cls(4, 4)
        return cls(2, 2) if deepspeed else cls(2, 4, casts=True)

    def inputs(self, width: int, products: int) -> int:
        """Returns the bytes of one token's input that `products` matrix products keep."""
        return width * self.compute * (products if self.casts else 1)

    def norm(self, width: int, products: int, *, learns: bool = True) -> int:
        """Returns the bytes that an RMSNorm before `products` matrix products keeps of one token.

        It keeps its input in float32 (the residual itself, if that is float32), what is multiplied by the weight if
        that learns, and what goes into the products.
        """
        return width * (4 + self.residual * learns) + self.inputs(width, products)


def decoder_layer(text: Text, precision: Precision, *, copies: int, rank: int = 0, padded: bool = False) -> float:
    """Returns the bytes that one layer of the language model keeps of one token.

    Args:
        text: Its dimensions.
        precision: Its number formats.
        copies: Copies of the attention's output beside that which the kernel keeps: 0 on a GPU, 1 on a CPU.
        rank: Rank of the adapters that learn in place of the weights; 0 if the weights learn.
        padded: Whether keys and values are repeated for all heads, as they are beside a mask.
    """
    hidden, inner, compute = text.hidden_size, text.intermediate_size, precision.compute
    kv = hidden if padded else text.kv_size
    attention = compute * (hidden * (2 + copies) + 2 * kv)
    # Gate, its activation and the other half are kept, and their product for the last projection.
    feed_forward = 4 * inner * compute
    adapters = 7 * 2 * rank * compute
    norms = precision.norm(hidden, 3, learns=not rank) + precision.norm(hidden, 2, learns=not rank)
    return norms + attention + feed_forward + adapters


def vision_block(vision: Vision, precision: Precision, *, copies: int) -> float:
    """Returns the bytes that one trainable block of a vision tower keeps of one patch."""
    hidden, inner, compute = vision.hidden_size, vision.intermediate_size, precision.compute
    # Values are a view of the joint projection, which stays whole.
    attention = hidden * compute * (2 + 3 + 1 + copies)
    return precision.norm(hidden, 1) + precision.norm(hidden, 2) + attention + 4 * inner * compute


def merger(vision: Vision, precision: Precision) -> float:
    """Returns the bytes that a trainable merger keeps of one image token."""
    return precision.norm(vision.merged_size, 1) + 2 * vision.merged_size * precision.compute


def language_model(
    text: Text,
    tokens: float,
    precision: Precision,
    *,
    copies: int,
    checkpointed: bool,
    rank: int = 0,
    padded: bool = False,
) -> tuple[float, float]:
    """Returns the bytes that the layers keep of the tokens, and those on top during the last layer's backward pass."""
    layer = tokens * decoder_layer(text, precision, copies=copies, rank=rank, padded=padded)
    # Gradients of the feed-forward's halves beside the halves themselves.
    passing = tokens * 2 * text.intermediate_size * precision.compute
    ending = tokens * (precision.norm(text.hidden_size, 0, learns=not rank) + text.hidden_size * precision.residual)
    if checkpointed:
        boundaries = tokens * text.num_hidden_layers * text.hidden_size * precision.residual
        return boundaries + ending, layer + passing
    return text.num_hidden_layers * layer + ending, passing


def vision_tower(
    vision: Vision, patches: float, precision: Precision, *, copies: int, checkpointed: bool, learns: bool
) -> float:
    """Returns the bytes that the vision tower keeps of the patches; 0 if it is frozen."""
    if not learns:
        return 0.0
    block = vision.hidden_size * precision.residual if checkpointed else vision_block(vision, precision, copies=copies)
    return patches * vision.depth * block


def target_logits(vocab_size: int, targets: float, precision: Precision) -> float:
    """Returns the bytes of the largest buffers of the engine's loss: 4096 positions at most, three times in float32.

    The forward pass keeps log-probabilities; the backward pass adds the gradients of the loss and of the logits.
    """
    copy = precision.compute if precision.compute < 4 else 0
    return min(targets, ROWS_AT_A_TIME) * vocab_size * (3 * 4 + copy)


def scored_logits(text: Text, targets: float, precision: Precision, *, learns: bool, weight_bytes: int) -> float:
    """Returns the bytes of TRL's largest loss buffers: a tile of logits, float32 gradients of hidden states, head."""
    tile = min(targets, _TRL_TILE[0]) * min(text.vocab_size, _TRL_TILE[1]) * precision.compute
    copy = weight_bytes if weight_bytes < 4 else 0
    return tile + targets * text.hidden_size * (4 + precision.compute) + learns * text.embeddings * (4 + copy)


def prefill(text: Text, sequences: int, prompt: int, precision: Precision) -> float:
    """Returns the peak bytes while prompts are read: three times the feed-forward's width of every token."""
    width = 3 * text.intermediate_size * precision.compute + 2 * text.hidden_size * precision.residual
    return float(sequences * prompt * width)


def vision_forward(vision: Vision, images: int, image_tokens: int, precision: Precision) -> float:
    """Returns the peak bytes while a batch of images is encoded: a block's feed-forward, and residuals."""
    width = 3 * vision.intermediate_size * precision.compute + 2 * vision.hidden_size * precision.residual
    return float(images * image_tokens * vision.spatial_merge_size**2 * width)


def clip_layer(tower: Tower) -> float:
    """Returns the bytes that one layer of a float32 CLIP keeps of one token.

    Norms keep inputs; projections theirs; attention queries, keys, values, its output and that output once more in the
    order of tokens; QuickGELU its input, the sigmoid and, as the next product's input, what comes out.
    """
    return 4 * (tower.hidden_size * (1 + 1 + 3 + 2 + 1 + 1) + tower.intermediate_size * 3)


def clip(shape: Clip, pairs: float, text_tokens: float) -> float:
    """Returns the bytes that a CLIP keeps of the pairs, in float32 and without checkpointing."""
    images = shape.vision.num_tokens * shape.vision.num_hidden_layers * clip_layer(shape.vision)
    texts = text_tokens * shape.text.num_hidden_layers * clip_layer(shape.text)
    return pairs * (images + texts)
