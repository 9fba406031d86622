"""Trains a CLIP with the contrastive loss, in a loop that resumes from frequent checkpoints."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPProcessor

from components.training.pathoclip.config import PathoclipConfig
from components.training.pathoclip.examples import Examples, batch_of, normalised, random_crops
from pathoflow.contract.output import Reporter
from pathoflow.system.files import write_atomically

CHECKPOINT = "checkpoint.pt"
MAX_LOGIT_SCALE = math.log(100)
"""Source: CLIP clips the temperature so that no logit is scaled by more than 100."""


def train(
    model: CLIPModel,
    processor: CLIPProcessor,
    examples: Examples,
    config: PathoclipConfig,
    scratch: Path,
    reporter: Reporter,
) -> list[float]:
    """Trains the model in place, from the checkpoint in `scratch` if a killed run left one.

    A checkpoint is one file that is replaced in one step: it is there complete, or it is not there. Batches and
    crops depend on the step alone, so a resumed run ends with the very weights of an undisturbed one.

    Returns:
        The loss of every step.
    """
    optimizer = _optimizer(model, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, config))
    losses = _resume(scratch / CHECKPOINT, model, optimizer, schedule)
    device = model.device
    model.train()
    for step in range(len(losses), config.num_steps):
        places = batch_of(step, len(examples), config.batch_size, config.seed)
        pixels = examples.pixels[places].to(device)
        crops = random_crops(pixels, config.min_crop_share, step, config.seed)
        tokens = tokenize(processor, [examples.captions[place] for place in places.tolist()]).to(device)
        logits = model(**tokens, pixel_values=normalised(crops, processor)).logits_per_image
        loss = contrastive_loss(logits, examples.caption_ids[places].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        losses.append(loss.item())
        reporter.series(step + 1, loss=losses[-1], learning_rate=schedule.get_last_lr()[0])
        reporter.progress(step + 1, config.num_steps, "steps", loss=round(losses[-1], 3))
        schedule.step()
        if (step + 1) % config.checkpoint_every_steps == 0:
            _save(scratch / CHECKPOINT, model, optimizer, schedule, losses)
    return losses


def contrastive_loss(logits: Tensor, caption_ids: Tensor) -> Tensor:
    """Computes InfoNCE over a batch, both ways, with every equal caption as a positive.

    Two images of a batch may bear the very same caption. The identity matrix would teach the model to tell equal
    texts apart; here the target of a row is spread evenly over all columns whose caption is equal.

    Args:
        logits: `[B, B]`, images by texts, scaled.
        caption_ids: `[B]`, equal for equal captions.

    >>> equal = contrastive_loss(torch.zeros(2, 2), torch.tensor([5, 5]))
    >>> round(equal.item(), 4) == round(math.log(2), 4)
    True

    Source: CLIP (Radford et al. 2021), figure 3. Differs from source: soft targets, as in UniCL
    (Yang et al. 2022), equation 2.
    """
    same = (caption_ids[:, None] == caption_ids[None, :]).float()
    targets = same / same.sum(dim=1, keepdim=True)
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


def learning_rate_share(step: int, config: PathoclipConfig) -> float:
    """Returns the share of the peak learning rate at a step: a linear rise, then half a cosine down to 0."""
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    progress = (step - config.warmup_steps) / max(1, config.num_steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def tokenize(processor: CLIPProcessor, captions: list[str]) -> Any:
    """Tokenizes captions into padded tensors `[B, L]`, truncated to the model's maximum length."""
    return processor.tokenizer(captions, padding=True, truncation=True, return_tensors="pt")


def _optimizer(model: CLIPModel, config: PathoclipConfig) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon)


def _save(path: Path, model: CLIPModel, optimizer: Any, schedule: Any, losses: list[float]) -> None:
    buffer = io.BytesIO()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "losses": losses,
    }
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def _resume(path: Path, model: CLIPModel, optimizer: Any, schedule: Any) -> list[float]:
    """Restores a checkpoint; returns the losses of the steps that it holds, none where there is no checkpoint."""
    if not path.is_file():
        return []
    state = torch.load(path, map_location=model.device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    losses: list[float] = state["losses"]
    return losses
