"""Which samples are too long to be learned, found before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accelerate import PartialState
from accelerate.utils import gather_object

from pathoflow.training.samples import Encoder, Sample


def overlong(
    numbers: Sequence[int], sample_of: Callable[[int], Sample], encoder: Encoder, limit: int, state: PartialState
) -> dict[int, int]:
    """The lengths, in tokens, of the samples that have more than `limit`, by number; the processes share the work.

    Pixels are not looked at: an image's tokens follow from the size in its header.
    """
    own = numbers[state.process_index :: state.num_processes]
    lengths = ((number, encoder.length(sample_of(number))) for number in own)
    return dict(sorted(gather_object([(number, length) for number, length in lengths if length > limit])))
