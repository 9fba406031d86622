from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.pool import Job, PageStore
from components.data_processing.textbook_pairs.records import BadPage, Figure, Mentions, Panel, key_of
from components.data_processing.textbook_pairs.stage import run, run_shard
from components.data_processing.textbook_pairs.unnumbered_references import find_mentions
from pathoflow.contract.output import StageOutput
from pathoflow.contract.sharding import Shard
from pathoflow.data.schemas import read_rows
from pathoflow.errors import ConfigError
from pathoflow.inference.endpoint import Endpoint
from pathoflow.inference.openai_endpoint import EndpointUnavailable
from tests.components.data_processing.textbook_pairs.conftest import FILLER, Sheet, tissue
from tests.support.chat_server import ChatServer, Reply, completion
from tests.support.pairs import contents

BOX = Box(0, 0, 100, 100)
FIGURE = Figure(
    number="3.2",
    caption_box=BOX,
    panels=[Panel(label=name, box=BOX, caption=f"Ducts {name}.", crop="") for name in "AB"],
)
SENTENCES = [
    "Ducts are narrow (Fig. 3.2A).",
    "The picture on the left shows a wide duct.",
    "It is rare.",
    "It is rare.",
]


def endpoint(server: ChatServer, **values: object) -> Endpoint:
    place = {"url": server.url, "model": "qwen-max", "max_retries": 1, "concurrency": 1}
    return Endpoint.model_validate(place | values)


def config(server: ChatServer, **values: object) -> TextbookPairsConfig:
    return TextbookPairsConfig.model_validate({"references_endpoint": endpoint(server), "num_workers": 1} | values)


def job(at: int) -> Job:
    return Job(Page(Path("book.pdf"), at, "book", "book", "book.pdf"), "mentions", key_of(at))


def find(folder: Path, place: Endpoint, sentences: Sequence[str]) -> Mentions | BadPage:
    (found,) = find_mentions({job(0): [FIGURE]}, lambda _: sentences, PageStore(folder), place, lambda _: None).values()
    return found


def read_back(found: Mentions | BadPage) -> list[tuple[int, str, str]]:
    assert isinstance(found, Mentions)
    return [(mention.figure, mention.panel, mention.sentence) for mention in found.found]


def references(*found: tuple[int, int, str]) -> Reply:
    """An answer: the number of a sentence, that of a figure, and a panel, for each reference."""
    return completion(
        {"references": [{"sentence": sentence, "figure": figure, "panel": panel} for sentence, figure, panel in found]}
    )


def test_the_model_is_asked_only_for_sentences_without_a_number(tmp_path: Path) -> None:
    with ChatServer(references((1, 1, "A"))) as server:
        found = find(tmp_path, endpoint(server), SENTENCES)
    assert read_back(found) == [(0, "A", SENTENCES[1])]
    (request,) = server.requests
    assert request["model"] == "qwen-max"
    assert request["response_format"]["json_schema"]["strict"] is True
    question = request["messages"][0]["content"]
    assert "1. Figure 3.2. Panel A: Ducts A. Panel B: Ducts B.\n" in question
    assert question.endswith("Sentences\n1. The picture on the left shows a wide duct.\n2. It is rare.")


def test_what_there_is_not_is_dropped(tmp_path: Path) -> None:
    with ChatServer(references((1, 1, "C"), (3, 1, ""), (0, 1, ""), (2, 2, ""), (2, 1, ""), (2, 1, ""))) as server:
        found = find(tmp_path, endpoint(server), SENTENCES)
    assert read_back(found) == [(0, "", "It is rare.")]


@pytest.mark.parametrize(
    "reply",
    [completion('{"references": [{"sentence": 1'), completion({"sentences": [1]}), references((9, 1, "")), Reply(422)],
)
def test_an_answer_that_cannot_be_used_is_told(tmp_path: Path, reply: Reply) -> None:
    with ChatServer(reply) as server:
        found = find(tmp_path, endpoint(server), SENTENCES)
    assert isinstance(found, BadPage)
    assert found.reason == "unnumbered_mentions_failed"
    assert found.detail


def test_nothing_is_asked_where_every_sentence_names_a_number(tmp_path: Path) -> None:
    with ChatServer(Reply(500)) as server:
        assert read_back(find(tmp_path, endpoint(server), SENTENCES[:1])) == []
    assert server.requests == []


def test_a_key_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFERENCES_KEY", raising=False)
    with ChatServer(Reply()) as server, pytest.raises(ConfigError, match="REFERENCES_KEY"):
        find(tmp_path, endpoint(server, api_key_variable="REFERENCES_KEY"), SENTENCES)


def test_many_pages_are_asked_for_at_once_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    jobs = [job(at) for at in range(12)]
    seen: list[int] = []
    with ChatServer(references((1, 1, "B"))._replace(wait_s=0.05)) as server:
        found = find_mentions(
            {one: [FIGURE] for one in jobs},
            lambda one: [f"The photograph of page {one.key} shows it."],
            PageStore(tmp_path),
            endpoint(server, concurrency=4),
            seen.append,
        )
    assert seen == list(range(13))
    for one in jobs:
        answer = found[one]
        assert isinstance(answer, Mentions)
        assert [mention.sentence for mention in answer.found] == [f"The photograph of page {one.key} shows it."]


def test_a_refused_page_is_told_apart_from_an_endpoint_that_is_down(tmp_path: Path) -> None:
    jobs = [job(at) for at in range(3)]
    with ChatServer(Reply(422), references(), Reply(401)) as server:
        with pytest.raises(EndpointUnavailable, match="401"):
            find_mentions(
                {one: [FIGURE] for one in jobs},
                lambda _: SENTENCES,
                PageStore(tmp_path),
                endpoint(server),
                lambda _: None,
            )
        server.replies.append(references((2, 1, "")))
        found = find_mentions(
            {one: [FIGURE] for one in jobs}, lambda _: SENTENCES, PageStore(tmp_path), endpoint(server), lambda _: None
        )
    refused, empty, last = found.values()
    assert isinstance(refused, BadPage)
    assert refused.reason == "unnumbered_mentions_failed"
    assert isinstance(empty, Mentions)
    assert isinstance(last, Mentions)
    assert (empty.found, len(last.found)) == ([], 1)
    # Three for the first run, one for the page that it left.
    assert len(server.requests) == 4


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a figure, and after it a page whose sentences may refer to it."""
    folder = tmp_path_factory.mktemp("unnumbered") / "book"
    folder.mkdir()
    sheet = Sheet()
    y = sheet.text(160, 180, FILLER)
    sheet.picture(180, y + 40, tissue((900, 500), 3))
    sheet.text(180, y + 560, "Fig. 3.1 Fibroadenoma of the breast.", size=26)
    sheet.image.save(folder / "page_1.png")
    sheet = Sheet()
    sheet.text(160, 180, "The picture overleaf shows narrow ducts. Ducts are lined by two layers (Fig. 3.1).")
    sheet.image.save(folder / "page_2.png")
    return folder


def read(book: Path, directory: Path, server: ChatServer | None = None) -> StageOutput:
    out = StageOutput(directory / "output", directory / "scratch")
    values = {} if server is None else config(server).model_dump(exclude_defaults=True)
    run(TextbookPairsConfig.model_validate(values | {"books": (book,), "num_workers": 1}), out=out)
    return out


def test_the_stage_adds_what_the_model_finds_in_the_order_of_the_text(book: Path, tmp_path: Path) -> None:
    numbered = "Ducts are lined by two layers (Fig. 3.1)."
    (row,) = read_rows(read(book, tmp_path / "without").path / "pairs")
    assert row["inline_refs"] == [numbered]
    with ChatServer(references((3, 1, ""))) as server:
        out = read(book, tmp_path / "with", server)
        (row,) = read_rows(out.path / "pairs")
        assert row["inline_refs"] == ["The picture overleaf shows narrow ducts.", numbered]
        assert row["inline_refs"][0] in (out.path / "contact_sheet.html").read_text()
        assert len(server.requests) == 1
        # A shard asks for the pages whose neighbours it read itself; the merge finds the answer.
        shards = []
        for index in (1, 2):
            directory = tmp_path / f"shard-{index}"
            shards.append(StageOutput(directory / "output", directory / "scratch"))
            run_shard(config(server, books=(book,)), shard=Shard(index, 2), out=shards[-1])
        merged = StageOutput(tmp_path / "merged" / "output", tmp_path / "merged" / "scratch")
        run(config(server, books=(book,)), parts=[shard.path for shard in shards], out=merged)
        assert contents(merged.path) == contents(out.path)
        assert len(server.requests) == 2


def test_pairs_stay_where_the_model_fails_and_the_failure_is_listed(book: Path, tmp_path: Path) -> None:
    with ChatServer(Reply(422, b"too long")) as server:
        out = read(book, tmp_path, server)
    assert len(list(read_rows(out.path / "pairs"))) == 1
    (line,) = (out.path / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "unnumbered_mentions_failed"
    assert "too long" in json.loads(line)["detail"]
