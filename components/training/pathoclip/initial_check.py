"""Checks before the first step that a pretrained CLIP tells captions apart."""

from __future__ import annotations

from transformers import CLIPModel, CLIPProcessor

from components.training.pathoclip.config import PathoclipConfig
from components.training.pathoclip.contrastive import contrastive_loss
from components.training.pathoclip.examples import Examples
from components.training.pathoclip.retrieval import embed, ranks
from pathoflow.errors import InputError
from pathoflow.modeling.source_config import TINY

NUM_PAIRS = 512


def initial_metrics(model: CLIPModel, processor: CLIPProcessor, examples: Examples) -> dict[str, float]:
    """Measures the model before it is trained, on the first pairs.

    Returns:
        `initial_loss`, the contrastive loss of all of them together, and `initial_rank`, the mean share of other
        captions to which an image's own is preferred: 1 is perfect, 0.5 is chance. The loss alone would not tell: a
        sound model that is too sure of itself on images new to it has one above that of chance.
    """
    few = Examples(examples.pixels[:NUM_PAIRS], examples.captions[:NUM_PAIRS], examples.caption_ids[:NUM_PAIRS])
    images, texts = embed(model, processor, few)
    logits = model.logit_scale.detach().cpu().exp() * images @ texts.T
    same = few.caption_ids[:, None] == few.caption_ids[None, :]
    num_others = (~same).sum(dim=1)
    behind = (ranks(images, texts, few.caption_ids) - 1) / num_others.clamp(min=1)
    return {
        "initial_loss": float(contrastive_loss(logits, few.caption_ids)),
        "initial_rank": 1.0 - float(behind.double().mean()),
    }


def check_initial_rank(initial_rank: float, config: PathoclipConfig) -> None:
    """Checks that a pretrained model does better than chance.

    Raises:
        InputError: It does not.
    """
    if config.model == TINY or config.min_initial_rank is None or initial_rank >= config.min_initial_rank:
        return
    raise InputError(
        f"Before the first step {config.model} prefers an image's own caption to {initial_rank:.3f} of other captions, "
        "where 0.5 is chance: it knows next to nothing of these pairs, so its weights are not what they are taken for. "
        f"If that is how it should be, lower pathoclip.min_initial_rank below {config.min_initial_rank} or set it to "
        "null."
    )
