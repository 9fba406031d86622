from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.layout.doclayout_yolo import CLASSES
from components.data_processing.textbook_pairs.layout.models import layout_model
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.pixels import Pixels
from components.data_processing.textbook_pairs.stage import run
from pathoflow.contract.output import StageOutput
from pathoflow.data.image_io import UnreadableImage
from pathoflow.data.schemas import read_rows
from pathoflow.errors import InputError
from pathoflow.inference.openai_endpoint import EndpointUnavailable
from tests.components.data_processing.textbook_pairs.layout.onnx_file import detector
from tests.support.chat_server import ChatServer, Reply, completion

WHITE: Pixels = np.full((1176, 840, 3), 255, dtype=np.uint8)
SCALE = 1024 / 1176
LEFT = (1024 - round(840 * SCALE)) // 2


def in_letterbox(box: Box, confidence: float, kind: str) -> list[float]:
    """A box of the 840 x 1176 page as the model sees it: 1024 high, in the middle of a square."""
    return [*box.scaled(SCALE).shifted(LEFT, 0), confidence, float(CLASSES.index(kind))]


def yolo(path: Path, detections: list[list[float]], metadata: dict[str, str] | None = None) -> list[Region]:
    path.write_bytes(detector(detections, metadata or {}))
    return layout_model(TextbookPairsConfig(layout="doclayout_yolo", layout_model=path)).find(WHITE)


def test_the_bundled_model_finds_figure_and_text(english_page: Image.Image) -> None:
    page = np.asarray(english_page.convert("RGB").reduce(2))
    regions = layout_model(TextbookPairsConfig()).find(page)
    assert {"figure", "text"} <= {region.kind for region in regions}
    assert regions == sorted(regions, key=lambda region: -region.confidence)


def test_a_doclayout_yolo_file_is_run_on_the_letterboxed_page(tmp_path: Path) -> None:
    boxes = {kind: Box(40, 30 + 90 * at, 800, 100 + 90 * at) for at, kind in enumerate(CLASSES)}
    detections = [in_letterbox(box, 0.9 - 0.05 * at, kind) for at, (kind, box) in enumerate(boxes.items())]
    # The stand-in adds the image's mean level to its first confidence: white page, grey sides, scaled to 0..1.
    mean = (1024 - round(840 * SCALE)) / 1024 * 114 / 255 + round(840 * SCALE) / 1024
    detections[0][4] = 0.95 - mean
    weak = in_letterbox(Box(0, 0, 500, 500), 0.22, "figure")
    found = yolo(tmp_path / "model.onnx", [*detections, weak])
    kinds = ["title", "text", "header", "figure", "figure_caption"]
    kinds += ["table", "table_caption", "table_caption", "equation", "equation"]
    assert [region.kind for region in found] == kinds
    assert found[0].confidence == pytest.approx(0.95, abs=2e-3)
    for region, box in zip(found, boxes.values(), strict=True):
        assert region.box == pytest.approx(box, abs=1.0)


def test_what_the_model_discards_is_a_header_above_and_a_footer_below(tmp_path: Path) -> None:
    places = [Box(40, 10, 800, 40), Box(40, 1100, 800, 1150)]
    found = yolo(tmp_path / "model.onnx", [in_letterbox(box, 0.5, "abandon") for box in places])
    assert {region.kind: round(region.box.y0) for region in found} == {"header": 10, "footer": 1100}


def test_a_box_is_cut_at_the_pages_edge_and_dropped_outside(tmp_path: Path) -> None:
    places = [Box(700, 1000, 1200, 1500), Box(-300, 100, -10, 200)]
    found = yolo(tmp_path / "model.onnx", [in_letterbox(box, 0.5, "figure") for box in places])
    assert [region.box for region in found] == [pytest.approx(Box(700, 1000, 840, 1176), abs=1.0)]


def test_a_files_own_list_of_classes_counts(tmp_path: Path) -> None:
    figure_first = {0: "figure", 1: "plain text"}
    found = yolo(tmp_path / "model.onnx", [[100, 100, 300, 300, 0.0, 0]], {"names": str(figure_first)})
    assert [region.kind for region in found] == ["figure"]
    with pytest.raises(InputError, match="person"):
        yolo(tmp_path / "other.onnx", [[100, 100, 300, 300, 0.9, 0]], {"names": str({0: "person"})})


@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.onnx"):
        layout_model(TextbookPairsConfig(layout="doclayout_yolo", layout_model=path))


def test_the_models_file_decides_the_output_as_the_books_do(tmp_path: Path) -> None:
    path = tmp_path / "weights.onnx"
    config = TextbookPairsConfig(layout="doclayout_yolo", layout_model=path)
    with pytest.raises(InputError, match=r"weights\.onnx"):
        config.external_files()
    path.write_bytes(b"weights")
    assert config.external_files() == [path]


@pytest.mark.parametrize(
    "values",
    [
        {"layout": "doclayout_yolo"},
        {"layout": "endpoint"},
        {"layout_endpoint": {"url": "http://user:key@host/v1", "model": "a-model"}},
        {"layout_endpoint": {"url": "http://host/v1"}},
    ],
)
def test_an_incomplete_choice_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="layout"):
        TextbookPairsConfig.model_validate(values)


def endpoint(server: ChatServer, api_key_variable: str | None = None, **values: object) -> TextbookPairsConfig:
    place = {
        "url": server.url,
        "model": "qwen2.5-vl-72b-instruct",
        "api_key_variable": api_key_variable,
        "max_retries": 1,
    }
    return TextbookPairsConfig.model_validate({"layout": "endpoint", "layout_endpoint": place} | values)


def regions_of(*regions: tuple[str, list[float]]) -> Reply:
    return completion({"regions": [{"category": category, "bbox_2d": box} for category, box in regions]})


def test_the_endpoint_sees_the_page_and_says_its_regions() -> None:
    page = WHITE.copy()
    page[200:400, 100:500] = (180, 90, 150)
    answer = regions_of(
        ("text", [50, 700, 790, 900]), ("figure", [500, 400, 100, 200]), ("footer", [0, 1150, 900, 1300])
    )
    with ChatServer(Reply(429), answer) as server:
        found = layout_model(endpoint(server)).find(page)
    # Corners in the wrong order are put right; a box that hangs over the edge by more than half is dropped.
    assert {region.kind: region.box for region in found} == {
        "text": Box(50, 700, 790, 900),
        "figure": Box(100, 200, 500, 400),
    }
    request = server.requests[-1]
    assert request["model"] == "qwen2.5-vl-72b-instruct"
    picture, question = request["messages"][0]["content"]
    assert "840 x 1176" in question["text"]
    sent = Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition(",")[2])))
    assert sent.size == (840, 1176)
    assert np.asarray(sent)[300, 300, 1] < 110


@pytest.mark.parametrize(
    "reply",
    [
        completion('{"regions": [{"category": "figure", "bbox_2d": [0, 0'),
        completion({"regions": [{"category": "figure", "bbox_2d": [1, 2, 3]}]}),
        completion({"regions": [{"category": "sculpture", "bbox_2d": [1, 2, 3, 4]}]}),
        regions_of(("figure", [2000, 2000, 2400, 2400])),
    ],
)
def test_an_answer_that_cannot_be_used_sets_the_page_aside(reply: Reply) -> None:
    with ChatServer(reply) as server, pytest.raises(UnreadableImage, match="layout_failed"):
        layout_model(endpoint(server)).find(WHITE)


def test_a_page_without_regions_is_an_answer() -> None:
    with ChatServer(regions_of()) as server:
        assert layout_model(endpoint(server)).find(WHITE) == []


def test_the_stage_asks_the_endpoint_once_a_page_and_goes_on_after_it_was_down(
    tmp_path: Path, english_page: Image.Image, plain_page: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYOUT_KEY", "s3cret")
    books = tmp_path / "books"
    books.mkdir()
    english_page.save(books / "page_1.png")
    plain_page.save(books / "page_2.png")
    answer = regions_of(("figure", [85, 120, 765, 590]))
    with ChatServer(Reply(503), Reply(503), answer) as server:
        config = endpoint(server, books=(books,), num_workers=1, api_key_variable="LAYOUT_KEY")
        with pytest.raises(EndpointUnavailable, match="503"):
            run(config, out=StageOutput(tmp_path / "output", tmp_path / "scratch"))
        out = StageOutput(tmp_path / "again", tmp_path / "scratch")
        run(config, out=out)
    assert out.quarantined == {}
    # One page was asked for and refused twice; then each page once, the neighbour's text without asking again.
    assert len(server.requests) == 4
    assert len(list(read_rows(out.path / "pairs"))) == 4
    assert "s3cret" not in json.dumps(config.resolved())
