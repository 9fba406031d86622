from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.data_processing.textbook_pairs import parts, pool
from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.stage import run, run_shard
from pathoflow.contract.output import StageOutput
from pathoflow.contract.sharding import Shard
from pathoflow.data.schemas import read_rows
from pathoflow.errors import InputError, StageError
from tests.support.pairs import contents

REAL_PAGES = Path(__file__).parents[4].parent / "shared" / "real" / "textbook"


@pytest.fixture(scope="module")
def books(
    tmp_path_factory: pytest.TempPathFactory,
    english_page: Image.Image,
    chinese_page: Image.Image,
    plain_page: Image.Image,
) -> Path:
    """A PDF, a folder of two page images, and files that are no pages."""
    folder = tmp_path_factory.mktemp("books")
    english_page.save(folder / "primer.pdf", resolution=200)
    (folder / "scans").mkdir()
    chinese_page.save(folder / "scans" / "page_9.png")
    plain_page.save(folder / "scans" / "page_10.png")
    (folder / "scans" / "notes.txt").write_text("no page")
    (folder / "torn.pdf").write_bytes((folder / "primer.pdf").read_bytes()[:9000])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "second copy").mkdir()
    (folder / "second copy" / "primer (1).pdf").write_bytes((folder / "primer.pdf").read_bytes())
    return folder


def read_books(books: Path, directory: Path, num_workers: int = 2) -> StageOutput:
    out = StageOutput(directory / "output", directory / "scratch")
    run(TextbookPairsConfig(books=(books,), num_workers=num_workers), out=out)
    return out


@pytest.fixture(scope="module")
def output(books: Path, tmp_path_factory: pytest.TempPathFactory) -> StageOutput:
    return read_books(books, tmp_path_factory.mktemp("run"))


def pairs_of(output: StageOutput) -> dict[str, dict[str, Any]]:
    return {row["source_id"]: row for row in read_rows(output.path / "pairs")}


def test_every_panel_gets_its_part_of_the_caption(output: StageOutput) -> None:
    captions = {source_id: row["caption"] for source_id, row in pairs_of(output).items()}
    assert captions == {
        "primer/p1/3.2/A": "Fibroadenoma of the breast. Narrow ducts.",
        "primer/p1/3.2/B": "Fibroadenoma of the breast. Wide ducts.",
        "primer/p1/3.2/C": "Fibroadenoma of the breast. Myxoid stroma.",
        "primer/p1/3.2/D": "Fibroadenoma of the breast. FISH.",
        "page_9/p1/4-2/A": "乳腺病变。腺管扩张。",
        "page_9/p1/4-2/B": "乳腺病变。上皮增生。",
        "page_9/p1/4-2/C": "乳腺病变。间质疏松。",
    }


def test_references_come_from_the_page_and_its_neighbours(output: StageOutput) -> None:
    pairs = pairs_of(output)
    assert pairs["primer/p1/3.2/B"]["inline_refs"] == ["Narrow ducts and wide ducts differ (Fig. 3.2A and B)."]
    assert pairs["primer/p1/3.2/C"]["inline_refs"] == []
    assert pairs["primer/p1/3.2/D"]["inline_refs"] == ["As Figs 3.1 and 3.2D show, the signal is bright."]
    assert pairs["page_9/p1/4-2/B"]["inline_refs"] == ["镜下腺管扩张（图4-2A、B）。"]
    assert pairs["page_9/p1/4-2/C"]["inline_refs"][0] == "间质疏松者预后良好（图4-2C）。"


def test_the_layout_model_is_not_asked_about_a_page_of_prose(output: StageOutput) -> None:
    records = [json.loads(path.read_text()) for path in (output.scratch / "pages").glob("*.figures.json")]
    records = [record for record in records if "seen" in record]  # the others could not be read
    prose = [record for record in records if record["seen"]["regions"] is None]
    assert len(records) == 3
    assert [record["figures"] for record in prose] == [[]]


def test_rows_describe_their_images(output: StageOutput) -> None:
    for row in pairs_of(output).values():
        region = row["region"]
        assert (region["page"], region["page_width"], region["page_height"]) == (1, 840, 1176)
        assert row["width"] > 300
        assert row["image"]["bytes"][:2] == b"\xff\xd8"
        assert row["language"] == ("zh" if "page_9" in row["source_id"] else "en")
        assert len(row["phash"]) == 16


def test_bad_files_are_set_aside_and_counted(output: StageOutput) -> None:
    lines = [json.loads(line) for line in (output.path / "quarantine.jsonl").read_text().splitlines()]
    assert {Path(line["item"]).name: line["reason"] for line in lines} == {
        "empty.jpg": "empty_file",
        "primer (1).pdf": "duplicate_file",
        "notes.txt": "unsupported_file",
        "torn.pdf": "truncated_pdf",
    }
    assert (output.num_in, output.num_out) == (7, 7)
    assert output.metrics["num_figures"] == 2
    assert output.metrics["share_kept_whole"] == 0
    assert len(list((output.path / "plots").iterdir())) == 2


def test_reviewers_find_every_figure_and_how_it_came_about(output: StageOutput) -> None:
    figures = [json.loads(line) for line in (output.path / "figures.jsonl").read_text().splitlines()]
    assert {figure["number"]: (figure["panels"], figure["kept_whole"]) for figure in figures} == {
        "3.2": (["A", "B", "C", "D"], ""),
        "4-2": (["A", "B", "C"], ""),
    }
    sheet = (output.path / "contact_sheet.html").read_text()
    assert all(row["caption"] in sheet for row in pairs_of(output).values())


def test_a_second_attempt_reads_no_finished_page_again(
    books: Path, output: StageOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a finished page was read again")

    monkeypatch.setattr(pool, "ProcessPoolExecutor", refuse)
    again = StageOutput(tmp_path / "output", output.scratch)
    run(TextbookPairsConfig(books=(books,)), out=again)
    files = sorted(path.relative_to(output.path) for path in output.path.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again.path) for path in again.path.rglob("*") if path.is_file())
    for file in files:
        assert (again.path / file).read_bytes() == (output.path / file).read_bytes(), file


def test_the_number_of_workers_does_not_show_in_the_output(books: Path, output: StageOutput, tmp_path: Path) -> None:
    alone = read_books(books, tmp_path, num_workers=1)
    shard = Path("pairs") / "shard-00000.parquet"
    assert (alone.path / shard).read_bytes() == (output.path / shard).read_bytes()


@pytest.fixture(scope="module")
def shards(books: Path, tmp_path_factory: pytest.TempPathFactory) -> list[StageOutput]:
    """Returns the output of two shards that read the books."""
    outputs = []
    for index in (1, 2):
        directory = tmp_path_factory.mktemp(f"shard-{index}")
        outputs.append(StageOutput(directory / "output", directory / "scratch"))
        run_shard(TextbookPairsConfig(books=(books,)), shard=Shard(index, 2), out=outputs[-1])
    return outputs


def test_shards_share_pages_and_bad_files_without_overlap(output: StageOutput, shards: list[StageOutput]) -> None:
    assert sum(shard.num_in for shard in shards) == output.num_in
    assert sum((shard.quarantined for shard in shards), start=type(output.quarantined)()) == output.quarantined
    assert all(shard.num_in and any(shard.path.glob("pages-*.zip")) for shard in shards)


def test_merged_shards_give_the_same_output_without_a_page_being_read(
    books: Path, output: StageOutput, shards: list[StageOutput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a shard's page was read again")

    monkeypatch.setattr(pool, "ProcessPoolExecutor", refuse)
    merged = StageOutput(tmp_path / "output", tmp_path / "scratch")
    run(TextbookPairsConfig(books=(books,)), parts=[shard.path for shard in shards], out=merged)
    assert contents(merged.path) == contents(output.path)
    assert (merged.num_in, merged.num_out) == (output.num_in, output.num_out)
    assert (merged.quarantined, merged.metrics) == (output.quarantined, output.metrics)


def test_a_shard_that_is_missing_is_read_by_the_merge(
    books: Path, output: StageOutput, shards: list[StageOutput], tmp_path: Path
) -> None:
    merged = StageOutput(tmp_path / "output", tmp_path / "scratch")
    run(TextbookPairsConfig(books=(books,)), parts=[shards[1].path], out=merged)
    assert contents(merged.path) == contents(output.path)


def test_a_killed_merge_unpacks_only_what_is_missing(shards: list[StageOutput], tmp_path: Path) -> None:
    parts.unpack([shard.path for shard in shards], tmp_path / "pages")
    whole = contents(tmp_path / "pages")
    lost, *_, kept = sorted(whole)
    (tmp_path / "pages" / lost).unlink()
    (tmp_path / "pages" / f".{lost}.tmp").write_bytes(b"torn")
    (tmp_path / "pages" / kept).write_bytes(b"kept")
    parts.unpack([shard.path for shard in shards], tmp_path / "pages")
    assert contents(tmp_path / "pages") == whole | {kept: b"kept"}


def test_page_runs_cover_all_pages_and_no_two_books(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PAGES_TOGETHER", 3)
    pages = [Page(Path(f"{book}.pdf"), at, book, book, book) for book, num in (("a", 7), ("b", 1)) for at in range(num)]
    assert list(parts.page_runs(pages)) == [range(3), range(3, 6), range(6, 7), range(7, 8)]
    assert list(parts.page_runs([])) == []


def test_a_worker_that_dies_is_reported_with_a_remedy(
    books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pool:
        def __init__(self, **_: object) -> None: ...

        def submit(self, *_: object) -> None:
            raise pool.BrokenProcessPool

        def shutdown(self, **_: object) -> None: ...

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Pool)
    with pytest.raises(StageError, match="num_workers"):
        read_books(books, tmp_path)


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    out = StageOutput(tmp_path / "output", tmp_path / "scratch")
    with pytest.raises(InputError, match="--books"):
        run(TextbookPairsConfig(), out=out)


@pytest.mark.skipif(not REAL_PAGES.is_dir(), reason="the real pages lie beside the repository on some machines only")
def test_real_pages_give_their_published_pairs(tmp_path: Path) -> None:
    pairs = pairs_of(read_books(REAL_PAGES, tmp_path))
    published = {
        "page_304/p1/13-19/A": (Box(105, 769, 413, 1006), "裂隙状管内型"),
        "page_304/p1/13-19/B": (Box(422, 766, 734, 1004), "腺管状管周型"),
    }
    assert pairs.keys() == published.keys()
    for source_id, (box, part) in published.items():
        row = pairs[source_id]
        region = row["region"]
        assert (region["page_width"], region["page_height"]) == (840, 1176)
        assert Box(region["x0"], region["y0"], region["x1"], region["y1"]).iou(box) >= 0.9
        assert row["caption"] == f"纤维腺瘤。{part}。"
        (sentence,) = row["inline_refs"]
        assert "分为裂隙状管内型(图13-19A)和腺管状管周型(图13-19B)" in sentence
        assert sentence.startswith("②镜下见肿物")
