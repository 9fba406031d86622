"""The vectorised search against comparing each pair with each, word by word and bit by bit."""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data_processing.corpus import duplicates, neighbours
from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.duplicates import Candidates, deduplicate
from components.data_processing.corpus.neighbours import near_images
from components.data_processing.corpus.shingles import Bands, CaptionSets

RULES = ("image_and_caption", "image", "caption", "image_or_caption")


def runs(caption: str) -> set[tuple[str, ...]]:
    words = caption.split()
    return set(pairwise(words)) or {tuple(words)}


def jaccard(one: str, other: str) -> float:
    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


def planted(num: int, seed: int) -> tuple[list[int], list[int], list[str]]:
    """Hashes, image files and captions, many of them a few bits or words from another."""
    rng = random.Random(seed)
    words = [f"w{number}" for number in range(30)]
    hashes, captions = [rng.getrandbits(64)], ["w0 w1 w2 w3"]
    for _ in range(num - 1):
        value = rng.choice(hashes) if rng.random() < 0.6 else rng.getrandbits(64)
        for bit in rng.sample(range(64), rng.randint(0, 5)):
            value ^= 1 << bit
        hashes.append(value)
        caption = rng.choice(captions).split() if rng.random() < 0.6 else rng.choices(words, k=rng.randint(1, 25))
        for _ in range(rng.randint(0, 2)):
            caption[rng.randrange(len(caption))] = rng.choice(words)
        captions.append(" ".join(caption))
    images = [hash((value, rng.randint(0, 2))) % 100_003 for value in hashes]
    return hashes, images, captions


def decided_one_by_one(hashes, images, captions, config):
    kept, per_image, per_caption = [], Counter(), Counter()
    for row, (value, image, caption) in enumerate(zip(hashes, images, captions, strict=True)):
        for other in kept:
            look = (value ^ hashes[other]).bit_count() <= config.near_duplicate_bits
            words = np.float32(jaccard(caption, captions[other])) >= np.float32(config.caption_similarity)
            verdicts = (look and words, look, words, look or words)
            if dict(zip(RULES, verdicts, strict=True))[config.duplicate_rule]:
                break
        else:
            too_many = per_caption[caption] >= (config.max_images_per_caption or len(hashes))
            if per_image[image] < config.max_captions_per_image and not too_many:
                kept.append(row)
                per_image[image] += 1
                per_caption[caption] += 1
    return set(kept)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("seed", "first_block", "crowd"), [(0, 4096, 128), (1, 16, 3)])
def test_what_is_kept_is_what_comparing_each_with_each_keeps(monkeypatch, rule, seed, first_block, crowd):
    monkeypatch.setattr(duplicates, "_FIRST_BLOCK", first_block)
    monkeypatch.setattr(neighbours, "CROWD", crowd)
    hashes, images, captions = planted(250, seed)
    config = CorpusConfig(
        heldout=["x"],
        duplicate_rule=rule,
        caption_similarity=0.7,
        max_captions_per_image=2,
        max_images_per_caption=4 if seed else None,
    )
    # Signatures so long that MinHash misses nothing.
    sets = CaptionSets([captions], shingle_words=2, num_hashes=512, similarity=0.7)
    candidates = Candidates(np.array(hashes, np.uint64), np.array(images), sets)
    deduplicate(np.arange(len(hashes)), candidates, config)
    kept = set(candidates.remaining(np.arange(len(hashes))).tolist())
    assert kept == decided_one_by_one(hashes, images, captions, config)
    assert {drop.kept for drop in candidates.dropped.values()} <= kept


@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.sets(st.integers(0, 63), max_size=12), st.integers(0, 10))
@settings(max_examples=40, deadline=None)
def test_near_hashes_are_exactly_those_that_a_full_comparison_finds(values, flipped, max_bits):
    values = [*values, *(value ^ sum(1 << bit for bit in flipped) for value in values)]
    rows = np.arange(len(values))
    found = near_images(rows, rows, np.array(values, np.uint64), max_bits)
    assert list(zip(found.left.tolist(), found.right.tolist(), found.bits.tolist(), strict=True)) == [
        (one, other, (values[one] ^ values[other]).bit_count())
        for one in range(len(values))
        for other in range(len(values))
        if one != other and (values[one] ^ values[other]).bit_count() <= max_bits
    ]


def test_the_similarity_of_captions_is_exact_in_any_script():
    captions = [
        "Lipoma of the back",
        "LIPOMA, of the neck!",
        "腺管状管周型",
        "腺管状，管内型",
        "",
        "…",
        "CD20+",
        "CD20",
    ]
    sets = CaptionSets([captions[:3], captions[3:]], shingle_words=2, num_hashes=48, similarity=0.8)
    rows = np.arange(len(captions))
    pairs = [(0, 0), (0, 1), (2, 3), (4, 4), (4, 5), (6, 7)]
    found = sets.jaccard(*(np.array(side) for side in zip(*pairs, strict=True)))
    assert found.tolist() == pytest.approx([1, 2 / 4, 3 / 7, 0, 0, 0])
    assert len(set(sets.texts[rows].tolist())) == len(captions) - 1


def test_signatures_find_as_many_as_their_bands_promise():
    rng = random.Random(3)
    captions = []
    while len(captions) < 2000:
        words = [f"w{rng.randrange(5000)}" for _ in range(30)]
        other = words.copy()
        other[rng.randrange(1, 29)] = "x"
        captions += [" ".join(words), " ".join(other)] if jaccard(" ".join(words), " ".join(other)) >= 0.8 else []
    sets = CaptionSets([captions], shingle_words=2, num_hashes=48, similarity=0.8)
    rows = np.arange(len(captions))
    found = neighbours.near_captions(rows[::2], rows[1::2], sets)
    assert sets.bands == Bands(12, 4)
    assert len(found.left) >= 0.99 * len(captions) / 2
    assert (found.similarity >= 0.8).all()


@pytest.mark.parametrize("rule", RULES)
def test_thousands_of_images_that_look_the_same_cost_no_comparison_of_each_with_each(rule):
    num = 20_000
    rng = np.random.default_rng(0)
    captions = [" ".join(f"w{word}" for word in words) for words in rng.integers(0, 10**6, size=(num, 8))]
    hashes = np.full(num, 0x0123456789ABCDEF, dtype=np.uint64) ^ (
        np.uint64(1) << rng.integers(0, 64, num, dtype=np.uint64)
    )
    sets = CaptionSets([captions], shingle_words=2, num_hashes=48, similarity=0.8)
    candidates = Candidates(hashes, np.arange(num), sets)
    start = time.process_time()
    deduplicate(np.arange(num), candidates, CorpusConfig(heldout=["x"], duplicate_rule=rule))
    # 2e8 comparisons of captions would take minutes.
    assert time.process_time() - start < 20
    assert len(candidates.dropped) == (num - 1 if rule in ("image", "image_or_caption") else 0)
