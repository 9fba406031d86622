"""Odd pairs among good ones: those that CLIP cannot learn are set aside, and captions stay with their images."""

from __future__ import annotations

import pytest
import torch

from components.training.pathoclip.examples import load_examples
from components.training.pathoclip.model import load
from components.training.pathoclip.stage import run
from pathoflow.data.image_io import encode_png
from pathoflow.errors import InputError
from tests.components.training.pathoclip.test_pathoclip import CONFIG, spots
from tests.support.odd import BROKEN, BROKEN_WITHIN, SOUND, embedded, set_aside, size_of
from tests.support.pairs import new_output, pair, picture, write_corpus

ODD = {
    **{name: ({"image": embedded(data, name)}, reason) for name, (data, reason) in BROKEN.items()},
    "broken_within": ({"image": embedded(BROKEN_WITHIN, "within"), "width": 128, "height": 128}, "corrupt_image"),
    "no_image": ({"image": None}, "empty_file"),
    "other_size": ({"width": 63}, "wrong_size"),
    "silent": ({"caption": None}, "no_caption"),
    "white": ({"caption": " \n"}, "no_caption"),
    "marked": ({"caption": "A <|endoftext|> lesion."}, "special_token"),
}
"""What is odd about a pair, and the reason for which it is set aside."""


def odd_pairs():
    for name, (changes, _) in ODD.items():
        yield pair(name, "A lesion.") | changes


def sound_pairs():
    for name, data in SOUND.items():
        width, height = size_of(data)
        image = embedded(data, name)
        yield pair(name, f"A lesion: {name}.") | {"image": image, "width": width, "height": height}


def test_odd_pairs_are_set_aside_and_counted(tmp_path):
    good = [*sound_pairs(), *spots(20, 0, "quilt_1m/train")]
    cut = pair("cut_heldout", "A lesion.") | {"image": embedded(BROKEN["cut"][0], "cut")}
    corpus = write_corpus(
        tmp_path / "corpus", train=[*odd_pairs(), *good], heldout=[*spots(12, 1, "quilt_1m/val"), cut]
    )
    out = new_output(tmp_path)
    run(CONFIG.model_copy(update={"num_steps": 2, "batch_size": 8}), corpus=corpus, out=out)
    expected = {f"quilt_1m/train/{name}": reason for name, (_, reason) in ODD.items()}
    assert set_aside(out) == expected | {cut["pair_id"]: "corrupt_image"}
    assert (out.num_in, out.num_out) == (len(ODD) + len(good) + 13, len(good) + 12)
    assert out.metrics["num_heldout"] == 12


def test_captions_stay_with_their_images(tmp_path):
    processor = load(CONFIG, ["A lesion."] * 4)[1]
    colours = [(20 * number, 7, 9) for number in range(8)]
    rows = [pair(str(number), f"Number {number}.", picture(1).resize((28, 28))) for number in range(8)]
    for row, colour in zip(rows, colours, strict=True):
        row["image"] = embedded(encode_png(picture(1).resize((28, 28)).point(lambda _, c=colour: c[0])), "plain")
        row |= {"width": 28, "height": 28}
    rows[0]["caption"], rows[3]["image"] = "", None
    out = new_output(tmp_path)
    examples = load_examples(write_corpus(tmp_path / "corpus", train=rows) / "train", processor, out)
    assert set(set_aside(out).values()) == {"no_caption", "empty_file"}
    assert examples.captions == [f"Number {number}." for number in (1, 2, 4, 5, 6, 7)]
    assert examples.pixels[:, 0, 5, 5].tolist() == [20 * number for number in (1, 2, 4, 5, 6, 7)]
    assert examples.caption_ids.tolist() == list(range(6))
    assert torch.equal(examples.pixels[0, 0], torch.full((28, 28), 20, dtype=torch.uint8))


def test_a_corpus_without_two_usable_pairs_is_an_input_error(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", train=[*spots(1, 0, "quilt_1m/train"), *odd_pairs()])
    out = new_output(tmp_path)
    with pytest.raises(InputError, match="at least two"):
        run(CONFIG, corpus=corpus, out=out)
    assert len(set_aside(out)) == len(ODD)
