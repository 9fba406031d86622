"""CLIP and the language model are given the same pixels of every image."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import CLIPProcessor

from components.training.pathoclip.examples import load_examples
from components.training.pathoclip.model import load
from pathoflow.modeling.encoding import Encoder, Sample
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from tests.components.training.pathoclip.test_pathoclip import CONFIG
from tests.support.odd import SOUND, embedded, size_of
from tests.support.pairs import new_output, pair, write_corpus

PAIRS = [
    pair(name, f"A lesion: {name}.")
    | {"image": embedded(data, name)}
    | dict(zip(("width", "height"), size_of(data), strict=True))
    for name, data in SOUND.items()
]


class Spy:
    """Remembers the images that an image processor is given."""

    def __init__(self, image_processor, monkeypatch):
        self.images, self._usual = [], image_processor.preprocess
        monkeypatch.setattr(image_processor, "preprocess", self._look)

    def _look(self, images, *positional, **options):
        image = images[0] if isinstance(images, list) else images
        self.images.append(np.asarray(image))
        assert image.mode == "RGB"
        return self._usual(images, *positional, **options)


@pytest.fixture(scope="module")
def clip() -> CLIPProcessor:
    return load(CONFIG, ["A lesion."] * 4)[1]


def test_both_models_see_the_same(clip, tmp_path, monkeypatch):
    by_clip = Spy(clip.image_processor, monkeypatch)
    corpus = write_corpus(tmp_path / "corpus", train=PAIRS)
    load_examples(corpus / "train", clip, new_output(tmp_path))

    encoder = Encoder(new_processor(train_tokenizer(["A lesion."] * 4, 300), max_pixels=784))
    by_language_model = Spy(encoder.processor.image_processor, monkeypatch)
    for row in PAIRS:
        encoder.encode(Sample(IMAGE + row["caption"], [row["image"]["bytes"]], "text"))

    assert len(by_clip.images) == len(by_language_model.images) == len(SOUND)
    for name, seen, seen_too in zip(SOUND, by_clip.images, by_language_model.images, strict=True):
        assert np.array_equal(seen, seen_too), name
    seen = dict(zip(SOUND, by_clip.images, strict=True))
    assert seen["turned"].shape == (56, 28, 3), "upright"
    assert (seen["alpha"][:, 14:] == 255).all(), "transparency lies on white"
    assert (seen["deep_png"].min(), seen["deep_png"].max()) == (0, 255), "deep grey keeps its levels"
    assert len(np.unique(seen["deep_png"])) > 200


def test_clip_keeps_the_pixels_of_an_image_of_its_own_size(clip, tmp_path):
    row = next(row for row in PAIRS if row["pair_id"].endswith("/alpha"))
    corpus = write_corpus(tmp_path / "corpus", train=[row])
    (pixels,) = load_examples(corpus / "train", clip, new_output(tmp_path)).pixels
    assert pixels.shape == (3, 28, 28)
    assert (pixels[:, :, 14:] == 255).all()
    assert pixels[:, 0, 0].tolist() == [127, 127, 255]
