"""The atlas as a whole: what it writes, that it is the same each time, and that the truth agrees with the files."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2 as pdfium
import pytest
from PIL import Image
from pydantic import ValidationError

from components.data_processing.teaching_atlas.book_parts import Figure, Page, Paragraph
from components.data_processing.teaching_atlas.book_plans import STYLES, plan_books
from components.data_processing.teaching_atlas.config import TeachingAtlasConfig
from components.data_processing.teaching_atlas.distractors import qr_code
from components.data_processing.teaching_atlas.public_images import LOOKUP_COLUMNS, image_tasks, make_image
from components.data_processing.teaching_atlas.specimens import DIAGNOSES
from components.data_processing.teaching_atlas.stage import run
from components.data_processing.teaching_atlas.typesetting import PAGE_WIDTH_PX, break_lines, load_font, set_page
from pathoflow.contract.output import StageOutput
from pathoflow.data.lexicon import Lexicon

REPOSITORY = Path(__file__).parents[4]
CONFIG = TeachingAtlasConfig(
    num_public_train=40, num_public_heldout=20, num_book_pages=9, num_heldout_pages=2, num_workers=1
)


@dataclasses.dataclass
class Atlas:
    out: StageOutput
    pairs: list[dict[str, Any]]
    specimens: list[dict[str, Any]]


def build(directory: Path, config: TeachingAtlasConfig) -> Atlas:
    out = StageOutput(directory / "output", directory / "scratch")
    run(config, out=out)
    return Atlas(out, *(read_lines(out.path / "truth" / f"{name}.jsonl") for name in ("pairs", "specimens")))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def archived(atlas: Atlas) -> dict[str, bytes]:
    with zipfile.ZipFile(atlas.out.path / "public" / "images.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def page_image(books: Path, pair: dict[str, Any]) -> Image.Image:
    path = books / pair["file"]
    if path.suffix == ".jpg":
        return Image.open(path).convert("RGB")
    page = pdfium.PdfDocument(path)[pair["page"] - 1]
    picture: Image.Image = page.render(scale=CONFIG.page_width_px / page.get_size()[0]).to_pil()
    return picture.convert("RGB")


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    return build(tmp_path_factory.mktemp("atlas"), CONFIG)


def test_the_bytes_do_not_depend_on_the_number_of_workers(atlas: Atlas, tmp_path: Path) -> None:
    again = build(tmp_path, CONFIG.model_copy(update={"num_workers": 2}))
    assert digests(again.out.path) == digests(atlas.out.path)


def test_another_seed_gives_other_images_and_a_larger_atlas_keeps_the_first_ones(atlas: Atlas) -> None:
    def made(*, seed: int, num_train: int) -> dict[str, bytes]:
        tasks = image_tasks(seed=seed, num_train=num_train, num_heldout=5, size_px=112, jpeg_quality=90)
        return {task.image_path: make_image(task)[0] for task in tasks}

    first = archived(atlas)
    assert not set(made(seed=1, num_train=40).values()) & set(first.values())
    larger = made(seed=CONFIG.seed, num_train=50)
    assert all(larger[name] == content for name, content in first.items() if name in larger)


def test_table_truth_and_image_files_agree(atlas: Atlas) -> None:
    public = atlas.out.path / "public"
    with (public / "quilt_1M_lookup.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == LOOKUP_COLUMNS
    truths = [truth for truth in atlas.specimens if truth["image"].startswith("public/")]
    assert [(row["image_path"], row["caption"], row["split"]) for row in rows] == [
        (Path(truth["image"]).name, truth["caption"], truth["split"]) for truth in truths
    ]
    images = archived(atlas)
    assert {row["image_path"] for row in rows} == set(images)
    for row in rows:
        with Image.open(io.BytesIO(images[row["image_path"]])) as image:
            assert (image.format, image.size) == ("JPEG", (int(row["width"]), int(row["height"])))
    assert [row["split"] for row in rows].count("train") == CONFIG.num_public_train
    assert [row["split"] for row in rows].count("val") == CONFIG.num_public_heldout


def test_splits_share_no_image_and_hold_every_diagnosis_equally_often(atlas: Atlas) -> None:
    images = archived(atlas)
    assert len(set(images.values())) == len(images)
    for split, each in (("train", 4), ("val", 2)):
        shown = [
            truth["diagnosis"]
            for truth in atlas.specimens
            if truth["split"] == split and truth["image"].startswith("public/")
        ]
        assert {name: shown.count(name) for name in shown} == {diagnosis.id: each for diagnosis in DIAGNOSES}


def test_captions_are_short_and_name_their_diagnosis_alone(atlas: Atlas) -> None:
    names = {diagnosis.id: diagnosis.name.en.lower() for diagnosis in DIAGNOSES}
    for truth in atlas.specimens:
        if truth["image"].startswith("public/"):
            words = truth["caption"].lower()
            assert len(words.split()) <= 25
            assert [name for name, text in names.items() if text in words] == [truth["diagnosis"]]
            assert all(phrase.lower() in words for phrase in truth["phrases"])


def test_every_diagnosis_stands_in_the_smoke_lexicon_with_the_same_names() -> None:
    lexicon = Lexicon.load(REPOSITORY / "recipes" / "smoke" / "lexicon.yaml")
    listed = {entry.id: (entry.name, entry.name_zh, entry.subfield) for entry in lexicon.diagnoses}
    assert listed == {known.id: (known.name.en, known.name.zh, known.subfield) for known in DIAGNOSES}
    subfields = {entry.id: entry.subfield for entry in lexicon.diagnoses}
    assert all(subfields[entry.sibling] == entry.subfield for entry in lexicon.diagnoses)


def test_books_have_the_pages_that_were_asked_for(atlas: Atlas) -> None:
    books = atlas.out.path / "books"
    assert len(pdfium.PdfDocument(books / "surgical_pathology.pdf")) == 3
    assert len(pdfium.PdfDocument(books / "bench_primer.pdf")) == 3
    assert len(list((books / "binglixue_tupu").iterdir())) == 3
    assert len(list((books / "review_heldout").iterdir())) == 2
    with Image.open(books / "review_heldout" / "review_heldout_001.jpg") as page:
        assert page.size == (1680, 2352)
    assert b"CreationDate" not in (books / "bench_primer.pdf").read_bytes()


def test_each_panel_lies_in_its_box_with_paper_around_it(atlas: Atlas) -> None:
    assert len({pair["panel_id"] for pair in atlas.pairs}) == len(atlas.pairs) > 15
    for pair in atlas.pairs:
        page = page_image(atlas.out.path / "books", pair)
        x0, y0, x1, y1 = np.array(pair["box"]) * [page.width, page.height, page.width, page.height]
        # The page is askew by up to 0.7 degrees: the upright box reaches a few pixels beyond the panel.
        inside = np.asarray(page.crop((round(x0) + 12, round(y0) + 12, round(x1) - 12, round(y1) - 12)))
        below = np.asarray(page.crop((round(x0), round(y1) + 2, round(x1), round(y1) + 8)))
        assert 1.2 < (x1 - x0) / (y1 - y0) < 1.7
        assert np.median(below) > 200
        assert inside.std() > 8
        assert inside.std() > below.std()


def test_labels_count_up_and_single_panels_have_none(atlas: Atlas) -> None:
    panels: dict[tuple[str, str], list[str]] = {}
    for pair in atlas.pairs:
        panels.setdefault((pair["book"], pair["figure"]), []).append(pair["panel"])
    for letters in panels.values():
        assert letters == ([""] if len(letters) == 1 else list("ABCDEF"[: len(letters)]))


def test_a_full_atlas_shows_one_to_six_panels_in_two_languages_with_references_to_neighbouring_pages() -> None:
    books = plan_books(0, 24, 6)
    pages = [page for book in books for page in book.pages]
    figures = [block for page in pages for block in page.blocks if isinstance(block, Figure)]
    assert {len(figure.panels) for figure in figures} == {1, 2, 3, 4, 5, 6}
    assert {book.style.language for book in books} == {"en", "zh"}
    assert {book.style.container for book in books} == {"pdf", "folder"}
    assert "heldout" in STYLES[-1].stem
    assert any(not own_figures(page) for page in pages)
    away = [mention for page in pages for mention in page.mentions if mention.figure not in own_figures(page)]
    assert len(away) > 5


def own_figures(page: Page) -> set[str]:
    return {block.number for block in page.blocks if isinstance(block, Figure)}


def test_inline_references_stand_in_the_text_and_name_the_figure(atlas: Atlas) -> None:
    printed = {
        book.style.stem: [
            sentence
            for page in book.pages
            for block in page.blocks
            if isinstance(block, Paragraph)
            for sentence in block.sentences
        ]
        for book in plan_books(CONFIG.seed, CONFIG.num_book_pages, CONFIG.num_heldout_pages)
    }
    num_references = 0
    for pair in atlas.pairs:
        for sentence in pair["inline_refs"]:
            num_references += 1
            assert sentence in printed[pair["book"]]
            named = re.search(rf"(?:Fig\. |图){pair['figure']}([A-Fa-f]?)(?![A-Za-z0-9])", sentence)
            assert named is not None
            assert named[1].upper() in ("", pair["panel"])
    assert num_references > 10


@pytest.mark.parametrize("seed", range(4))
def test_every_page_fits_its_sheet(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "components.data_processing.teaching_atlas.typesetting.render",
        lambda specimen, rng, size_px: Image.new("RGB", size_px),
    )
    for book in plan_books(seed, 30, 10):
        for page in book.pages:
            _, boxes = set_page(page, book.style)
            assert all(0 < x0 < x1 < PAGE_WIDTH_PX for x0, _, x1, _ in boxes.values())


def test_lines_fit_and_lose_nothing() -> None:
    for language, text in (
        ("en", "Small glands (Fig. 3-2A) lie close together, and B-cell lymphoma shows brown membranes."),
        ("zh", "管状腺瘤可见小圆形腺体，排列紧密(图13-19A)。HER2扩增型乳腺癌可见大量红色信号。"),
    ):
        font = load_font(language, 30)
        lines = break_lines(text, font, 240, 300)
        assert "".join(token for line in lines for token in line) == text
        assert all(font.getlength("".join(line).rstrip()) <= 300 for line in lines)
        assert not any(line[0].startswith(("，", "。", ")")) for line in lines)


def test_the_qr_code_is_read_back() -> None:
    import cv2

    image = np.asarray(qr_code("bench_primer", 300))
    framed = np.pad(image, ((40, 40), (40, 40), (0, 0)), constant_values=255)
    assert cv2.QRCodeDetector().detectAndDecode(framed)[0] == "bench_primer"


@pytest.mark.parametrize("change", [{"num_public_train": 0}, {"page_width_px": 300}, {"pages": 3}])
def test_a_wrong_value_or_key_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        TeachingAtlasConfig(**change)
