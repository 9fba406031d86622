"""Every claim of a caption is in the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from components.data_processing.teaching_atlas.micrographs import render
from components.data_processing.teaching_atlas.other_images import OTHER_DIAGNOSES
from components.data_processing.teaching_atlas.specimens import DIAGNOSES, Diagnosis, Specimen, draw_specimen

BY_ID = {diagnosis.id: diagnosis for diagnosis in (*DIAGNOSES, *OTHER_DIAGNOSES)}
QUARTERS = ("upper left", "upper right", "lower left", "lower right")


def pixels_of(diagnosis: str, draw: int, /, **findings: str) -> NDArray[np.float64]:
    """A picture `[112, 112, 3]` of a drawn specimen with some of its findings set."""
    rng = np.random.default_rng([77, draw])
    specimen = draw_specimen(rng, BY_ID[diagnosis])
    assert findings.keys() <= specimen.findings.keys()
    image = render(Specimen(specimen.diagnosis, specimen.findings | findings), rng, (112, 112))
    return np.asarray(image, dtype=np.float64)


def brown_share(pixels: NDArray[np.float64]) -> float:
    red, _, blue = np.moveaxis(pixels, -1, 0)
    return float((red - blue > 30).mean())


def num_red_signals(pixels: NDArray[np.float64]) -> int:
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return int(ndimage.label((red > 130) & (green < 120) & (blue < 170))[1])


def quarter_of(mask: NDArray[np.bool_]) -> str:
    """The quarter of the field that holds the largest part of a mask."""
    halves = [np.array_split(rows, 2, axis=1) for rows in np.array_split(mask, 2, axis=0)]
    sums = [part.sum() for rows in halves for part in rows]
    return QUARTERS[int(np.argmax(sums))]


@pytest.mark.parametrize("diagnosis", BY_ID.values(), ids=BY_ID.keys())
def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(diagnosis: Diagnosis) -> None:
    specimen = draw_specimen(np.random.default_rng(1), diagnosis)
    first, again, other = (render(specimen, np.random.default_rng(seed), (112, 112)) for seed in (1, 1, 2))
    assert first.mode == "RGB"
    assert first.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize("size_px", [(56, 56), (400, 250), (250, 400)])
def test_pictures_come_in_any_size(size_px: tuple[int, int]) -> None:
    for diagnosis in BY_ID.values():
        rng = np.random.default_rng(0)
        assert render(draw_specimen(rng, diagnosis), rng, size_px).size == size_px


def test_only_the_positive_lymphoma_is_brown() -> None:
    positive = [brown_share(pixels_of("b_cell_lymphoma", number)) for number in range(20)]
    negative = [brown_share(pixels_of("t_cell_lymphoma", number)) for number in range(20)]
    assert min(positive) > 0.08
    assert max(negative) < 0.02


def test_amplified_nuclei_hold_many_red_signals_and_others_two_each() -> None:
    for number in range(10):
        findings = {"size": "large", "number": "three", "landmark": "none"}
        assert num_red_signals(pixels_of("her2_amplified", number, **findings)) > 15
        assert num_red_signals(pixels_of("her2_not_amplified", number, **findings)) == 6


def test_nuclei_can_be_counted() -> None:
    for number in range(10):
        for word, count in (("two", 2), ("three", 3), ("four", 4)):
            pixels = pixels_of("her2_not_amplified", number, number=word, stain="bright", landmark="none")
            assert ndimage.label(pixels.max(axis=-1) > 90)[1] == count


def test_stain_and_light_show() -> None:
    for number in range(10):
        for diagnosis, strong, weak in (
            ("tubular_adenoma", "deep", "pale"),
            ("villous_adenoma", "deep", "pale"),
            ("t_cell_lymphoma", "deep", "pale"),
        ):
            dark = np.quantile(pixels_of(diagnosis, number, stain=strong, landmark="none").min(axis=-1), 0.02)
            light = np.quantile(pixels_of(diagnosis, number, stain=weak, landmark="none").min(axis=-1), 0.02)
            assert dark < light - 25
        dim, bright = (pixels_of("her2_amplified", number, stain=light)[..., 2] for light in ("dim", "bright"))
        assert np.quantile(dim, 0.98) < np.quantile(bright, 0.98) - 60


def test_size_and_spacing_change_the_covered_area() -> None:
    for number in range(10):
        yellow = {
            size: brown_share(pixels_of("lipoma", number, size=size, backdrop="blue", ruler="none", landmark="none"))
            for size in ("small", "large")
        }
        assert yellow["large"] > 1.8 * yellow["small"]
        covered = [
            (pixels_of("t_cell_lymphoma", number, spacing=spacing, stain="deep", landmark="none")[..., 0] < 150).mean()
            for spacing in ("wide", "even", "close")
        ]
        assert covered[0] < covered[1] < covered[2]


def test_normal_cells_have_smaller_dark_nuclei_than_a_high_grade_lesion() -> None:
    def dark_share(diagnosis: str, number: int) -> float:
        return float((pixels_of(diagnosis, number, background="clean", landmark="none").max(axis=-1) < 140).mean())

    for number in range(10):
        assert dark_share("hsil", number) > 4 * dark_share("normal_squamous_epithelium", number)


@pytest.mark.parametrize("backdrop", ["blue", "green", "grey", "white"])
def test_backdrops_have_the_colour_of_their_name(backdrop: str) -> None:
    for number in range(5):
        corner = pixels_of("melanoma", number, backdrop=backdrop, ruler="none", landmark="none")[:8, :8].mean(
            axis=(0, 1)
        )
        red, green, blue = corner
        seen = {
            "blue": blue > 1.3 * max(red, green),
            "green": green > 1.2 * max(red, blue),
            "grey": np.ptp(corner) < 40 and 90 < corner.mean() < 190,
            "white": np.ptp(corner) < 40 and corner.mean() > 195,
        }
        assert [name for name, is_seen in seen.items() if is_seen] == [backdrop]


def test_a_ruler_lies_below() -> None:
    for number in range(5):
        bottom = [
            pixels_of("lipoma", number, backdrop="blue", ruler=ruler, landmark="none")[-5:].mean(axis=(0, 1))
            for ruler in ("none", "below")
        ]
        assert bottom[0][0] < 100
        assert bottom[1][0] > 180


@pytest.mark.parametrize("where", QUARTERS)
@pytest.mark.parametrize("diagnosis", ["tubular_adenoma", "villous_adenoma", "lipoma", "melanoma"])
def test_blood_lies_in_the_quarter_that_the_caption_names(diagnosis: str, where: str) -> None:
    for number in range(5):
        red, green, blue = np.moveaxis(pixels_of(diagnosis, number, landmark=where), -1, 0)
        assert quarter_of((red > 130) & (green < 75) & (blue < 85)) == where


@pytest.mark.parametrize("where", QUARTERS)
def test_haze_and_neutrophils_lie_in_the_quarter_that_the_caption_names(where: str) -> None:
    for number in range(5):
        red, green, blue = np.moveaxis(pixels_of("her2_not_amplified", number, landmark=where), -1, 0)
        assert quarter_of((green > 30) & (green > 1.5 * red) & (green > 1.3 * blue)) == where
        red, green, blue = np.moveaxis(pixels_of("normal_squamous_epithelium", number, landmark=where), -1, 0)
        assert quarter_of((red < 110) & (blue > 90) & (green < 110)) == where


def test_other_kinds_show_what_they_say() -> None:
    few, many = (pixels_of("oncocytoma", 3, number=number).mean() for number in ("few", "many"))
    weak, strong = (pixels_of("membranous_nephropathy", 3, intensity=level).max() for level in ("weak", "strong"))
    assert many < few - 10
    assert strong > weak + 60
    for position, half in (("upper", slice(0, 56)), ("lower", slice(56, 112))):
        rows = pixels_of("bone_cyst", 3, position=position)[:, 44:68].mean(axis=(1, 2))
        assert int(np.argmin(np.convolve(rows, np.ones(9), "same")[5:-5])) + 5 in range(112)[half]


def test_ten_diagnoses_can_be_told_apart_from_few_pixels() -> None:
    """A linear classifier on colours and coarse pixels; a real model sees 56 px."""
    from sklearn.linear_model import LogisticRegression

    features, labels = [], []
    for number in range(800):
        rng = np.random.default_rng([5, number])
        image = render(draw_specimen(rng, DIAGNOSES[number % 10]), rng, (112, 112))
        small = np.asarray(image.resize((56, 56), Image.Resampling.BOX), dtype=np.float64) / 255
        red, green, blue = np.moveaxis(small, -1, 0)
        tints = [
            red,
            green,
            blue,
            red - blue,
            green - blue,
            np.abs(np.diff(green, axis=0)),
            np.abs(np.diff(red, axis=1)),
        ]
        features.append(np.concatenate([np.quantile(tint, np.linspace(0, 1, 11)) for tint in tints]))
        labels.append(number % 10)
    scaled = (np.array(features) - np.mean(features, axis=0)) / (np.std(features, axis=0) + 1e-9)
    classifier = LogisticRegression(max_iter=500).fit(scaled[:600], labels[:600])
    assert classifier.score(scaled[600:], labels[600:]) > 0.95
