"""The batches of each process and optimiser step: packs of samples, ready for the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from torch.utils.data import Dataset

from pathoflow.modeling.encoding import IGNORED, Encoded, Encoder, Sample, UnlearnableImage, filler, remembering
from pathoflow.training.plan import Plan
from pathoflow.training.unseen import Unseen, stand_in


class Share(TypedDict):
    """One process's part of an optimiser step.

    Attributes:
        packs: The model's inputs, a forward pass each.
        weight: Sum of the weights of the tokens to learn, float64.
        num_tokens: Tokens of the samples, without fillers.
        num_computed: Tokens that go through the model.
    """

    packs: list[dict[str, Any]]
    weight: torch.Tensor
    num_tokens: int
    num_computed: int


class StepShares(Dataset[Share]):  # type: ignore[misc]
    """The parts of all processes in all steps: part `step * num_processes + process`, made when it is asked for.

    Args:
        plan: Says which samples.
        sample_of: The sample of a number. Data workers need one that pickles.
        encoder: Encodes it.
        num_cached: Encoded samples that are kept in memory, the least recently used ones being dropped. For data
            workers none can be.
        unseen: Notes samples whose images cannot be decoded, which are not learned; without it, one ends the run.
    """

    def __init__(
        self,
        plan: Plan,
        sample_of: Callable[[int], Sample],
        encoder: Encoder,
        num_cached: int = 0,
        unseen: Unseen | None = None,
    ) -> None:
        self.plan = plan
        self._sample_of, self._encoder, self._unseen = sample_of, encoder, unseen
        self._filler = filler(encoder)
        self.encoded = remembering(self._encode, num_cached)

    def __len__(self) -> int:
        return self.plan.num_steps * self.plan.num_processes

    def __getitem__(self, index: int) -> Share:
        step, process = divmod(index, self.plan.num_processes)
        members = [[self.encoded(number) for number in pack] for pack in self.plan.packs(step)[process]]
        packs = [packed(samples, self._filler) for samples in members]
        return Share(
            packs=packs,
            weight=torch.stack([pack["target_weights"].double().sum() for pack in packs]).sum(),
            num_tokens=sum(len(sample["input_ids"]) for samples in members for sample in samples),
            num_computed=sum(pack["input_ids"].shape[1] for pack in packs),
        )

    def _encode(self, number: int) -> Encoded:
        sample = self._sample_of(number)
        try:
            return self._encoder.encode(sample)
        except UnlearnableImage as error:
            if self._unseen is None:
                raise
            self._unseen.note(number, sample.name, error.fault)
            return self._encoder.encode(stand_in(sample))


def packed(samples: Sequence[Encoded], filler: Encoded) -> dict[str, Any]:
    """The model's inputs for samples that lie one after another in one sequence of `L` tokens.

    Every pack has an image, if need be the `filler`: processes in which one runs the vision tower and another does
    not would wait for each other's gradients, and for each other's weights under ZeRO-3, for ever.

    Returns:
        `input_ids` `[1, L]`; `position_ids` `[3, 1, L]`, of each sample from 0; the samples' boundaries
        `cu_seq_lens_q` and `_k` `[N + 1]` with `max_length_q` and `_k`, as transformers calls them; `pixel_values` and
        `image_grid_thw` of all images; `targets`, `target_positions` and `target_weights` `[T]`.
    """
    if not any("pixel_values" in sample for sample in samples):
        samples = [*samples, filler]
    lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
    boundaries = torch.cat((torch.zeros(1, dtype=torch.int32), lengths.cumsum(0, dtype=torch.int32)))
    longest = int(lengths.max())
    labels = torch.cat([_predicted(sample["labels"], IGNORED) for sample in samples])
    weights = torch.cat([_predicted(sample["weights"], 0.0) for sample in samples])
    positions = (labels != IGNORED).nonzero().flatten()
    with_images = [sample for sample in samples if "pixel_values" in sample]
    return {
        "input_ids": torch.cat([sample["input_ids"] for sample in samples]).unsqueeze(0),
        "position_ids": torch.cat([sample["positions"] for sample in samples], dim=1).unsqueeze(1),
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": longest,
        "max_length_k": longest,
        "pixel_values": torch.cat([sample["pixel_values"] for sample in with_images]),
        "image_grid_thw": torch.cat([sample["image_grid_thw"] for sample in with_images]),
        "targets": labels[positions],
        "target_positions": positions,
        "target_weights": weights[positions],
    }


def the_only(shares: Sequence[Share]) -> Share:
    """Collates a batch of one share: the share."""
    (share,) = shares
    return share


def _predicted(values: torch.Tensor, last: float) -> torch.Tensor:
    """For each position the value of the next one, which is what it predicts; the last predicts nothing."""
    return torch.cat((values[1:], torch.full_like(values[:1], last)))
