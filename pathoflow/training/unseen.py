"""Samples whose images turn out to be broken only when they are decoded to be learned.

Header and end of such a file are sound, and decoding every image beforehand would take hours. The sample keeps its
place in the plan, so that nothing else changes, and teaches nothing: plain images stand in for its own, and it has no
weight.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from pathoflow.data.image_io import encode_png
from pathoflow.data.trainable.text_checks import Fault
from pathoflow.modeling.encoding import Sample, sizes_of
from pathoflow.system.files import write_atomically
from pathoflow.training.job import Unlearned


@dataclass(frozen=True)
class Unseen:
    """Notes of such samples, by all processes that prepare data, before and after a restart.

    Attributes:
        directory: Keeps a file for each.
    """

    directory: Path

    def note(self, number: int, name: str, fault: Fault) -> None:
        """Notes what was found of the sample of this number."""
        self.directory.mkdir(exist_ok=True)
        write_atomically(self._file(number), json.dumps([name, *fault]))

    def among(self, numbers: Iterable[int]) -> Unlearned:
        """Name, reason and detail of each sample that was noted and has one of the numbers.

        Who prepares data is ahead of what is learned, and may have noted more.
        """
        files = [file for number in numbers if (file := self._file(number)).is_file()]
        return [tuple(json.loads(file.read_bytes())) for file in files]

    def _file(self, number: int) -> Path:
        return self.directory / f"{number}.json"


def stand_in(sample: Sample) -> Sample:
    """As long as the sample, with plain images as large as its own, and of no weight."""
    images = [encode_png(Image.new("RGB", size)) for size in sizes_of(sample)]
    return replace(sample, images=images, weight=0.0)
