"""The engine for endpoints against a real server, which sends what OpenAI, vLLM and SGLang send."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel, ConfigDict

from pathoflow.data.image_io import encode_jpeg, encode_png
from pathoflow.errors import ConfigError
from pathoflow.inference.endpoint import Endpoint
from pathoflow.inference.openai_endpoint import EndpointUnavailable, OpenAIEndpoint
from pathoflow.inference.protocol import Request, Response
from pathoflow.qa.prompts import text_message
from tests.support.chat_server import ChatServer, Reply, completion


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    organ: str
    grade: int


MESSAGES = [text_message("user", "What is it?")]
REQUEST = Request(MESSAGES, schema=Answer)
GOOD = completion({"organ": "breast", "grade": 2})


def engine(url: str, **values: object) -> OpenAIEndpoint:
    given = {"url": url, "model": "a-model", "max_retries": 2, "timeout_s": 5} | values
    return OpenAIEndpoint(Endpoint.model_validate(given), backoff_s=0.01)


def ask(server: ChatServer, request: Request = REQUEST, **values: object) -> Response:
    (response,) = engine(server.url, **values).generate([request])
    return response


def answer(server: ChatServer, **values: object) -> Answer:
    response = ask(server, REQUEST, **values)
    assert response.fault is None
    return Answer.model_validate_json(response.text)


def message(content: Any, finish_reason: str = "stop", **more: Any) -> Reply:
    """A choice whose message has more fields than `completion` gives it."""
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": content, **more}}
    return Reply(200, json.dumps({"object": "chat.completion", "choices": [choice]}).encode())


def error_body(text: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": text, "type": "invalid_request_error", **more}}).encode()


def test_the_request_asks_for_the_answers_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "s3cret")
    with ChatServer(GOOD) as server:
        assert answer(server, api_key_variable="THE_KEY") == Answer(organ="breast", grade=2)
    (request,) = server.requests
    assert server.paths == ["/v1/chat/completions"]
    assert server.headers[0]["authorization"] == "Bearer s3cret"
    assert (request["model"], request["temperature"], request["seed"]) == ("a-model", 0, 0)
    assert request["messages"] == [{"role": "user", "content": "What is it?"}]
    schema = request["response_format"]["json_schema"]
    assert request["response_format"]["type"] == "json_schema"
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["organ", "grade"]
    assert schema["schema"]["additionalProperties"] is False


def test_free_text_is_asked_for_without_a_schema_and_comes_as_it_is() -> None:
    with ChatServer(completion("```json\nIt is a breast.\n```")) as server:
        assert ask(server, Request(MESSAGES)) == Response("```json\nIt is a breast.\n```")
    assert "response_format" not in server.requests[0]


def test_images_stand_in_their_places_as_they_are() -> None:
    images = [encode_png(Image.new("RGB", (4, 4))), encode_jpeg(Image.new("RGB", (4, 4)), 90)]
    content = [{"type": "image"}, {"type": "text", "text": "and"}, {"type": "image"}]
    with ChatServer(completion("yes")) as server:
        ask(server, Request([{"role": "user", "content": content}], images))
    first, between, second = server.requests[0]["messages"][0]["content"]
    assert between == {"type": "text", "text": "and"}
    for part, kind, data in ((first, "png", images[0]), (second, "jpeg", images[1])):
        head, _, encoded = part["image_url"]["url"].partition(",")
        assert head == f"data:image/{kind};base64"
        assert base64.b64decode(encoded) == data


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
def test_the_environments_account_at_openai_is_not_sent(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "s3cret")
    with ChatServer(GOOD) as server:
        answer(server)
    assert "s3cret" not in str(server.headers)
    assert "authorization" not in server.headers[0]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
def test_a_server_that_is_busy_for_a_while_is_asked_again(status: int) -> None:
    with ChatServer(Reply(status), Reply(status), GOOD) as server:
        assert answer(server).grade == 2
    assert len(server.requests) == 3


def test_a_server_that_says_how_long_to_wait_is_obeyed() -> None:
    with ChatServer(Reply(429, headers=(("Retry-After", "1"),)), GOOD) as server:
        started = time.monotonic()
        answer(server)
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500),
        Reply(401, b"no such key"),
        Reply(404, error_body("The model `a-model` does not exist.", code=404)),
        Reply(302, headers=(("Location", "http://127.0.0.1:9/"),)),
    ],
)
def test_a_server_that_will_not_answer_stops_the_stage(reply: Reply) -> None:
    with ChatServer(reply) as server, pytest.raises(EndpointUnavailable, match=str(reply.status)):
        ask(server)
    assert len(server.requests) == (3 if reply.status == 500 else 1)


def test_the_key_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "s3cret")
    with ChatServer(GOOD) as elsewhere, ChatServer(Reply(307, headers=(("Location", elsewhere.url),))) as server:
        with pytest.raises(EndpointUnavailable, match="307"):
            ask(server, api_key_variable="THE_KEY")
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [400, 401])
def test_a_key_that_the_server_repeats_stands_in_no_message(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv("THE_KEY", "s3cret")
    said = ""
    with ChatServer(Reply(status, error_body("Incorrect API key provided: s3cret."))) as server:
        try:
            said = ask(server, api_key_variable="THE_KEY").fault or ""
        except EndpointUnavailable as error:
            said = str(error)
    assert "Incorrect API key provided" in said
    assert "s3cret" not in said


def test_a_server_that_is_silent_is_asked_again_and_then_given_up() -> None:
    silent = Reply(wait_s=0.6)
    with ChatServer(silent) as server, pytest.raises(EndpointUnavailable, match="run the same command again"):
        ask(server, timeout_s=0.1, max_retries=1)
    assert len(server.requests) == 2


def test_a_server_that_is_not_there_stops_the_stage() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(EndpointUnavailable, match=address):
            engine(address, max_retries=1).generate([REQUEST])


@pytest.mark.parametrize(
    "reply",
    [
        completion('{"organ": "breast", "gra'),
        completion({"organ": "breast"}),
        completion({"organ": "breast", "grade": 2, "more": 1}),
        completion("It is a breast."),
    ],
)
def test_a_malformed_answer_is_asked_for_once_more(reply: Reply) -> None:
    with ChatServer(reply, GOOD) as server:
        assert answer(server).organ == "breast"
    assert [request["seed"] for request in server.requests] == [0, 1]
    with ChatServer(reply) as server:
        assert "the first: " in (ask(server).fault or "")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (Reply(200, b"<html>"), "no completion in <html>"),
        (Reply(200, b'{"choices": []}'), "no completion"),
        (completion(""), "an empty answer"),
        (completion('{"organ"', "length"), "cut at max_tokens"),
        (completion({"organ": "breast", "grade": 2}, "length"), "cut at max_tokens"),
        # Thinking that took all tokens, and a refusal.
        (message(None, "length", reasoning_content="It may be"), "cut at max_tokens"),
        (message(None, refusal="I cannot say.", reasoning_content=None), "an empty answer"),
        (Reply(400, error_body("the image is too large")), r"\(400\): .*the image is too large"),
        (Reply(413, b"<html>413 Request Entity Too Large"), r"\(413\)"),
        (Reply(422, b'{"detail": [{"msg": "Field required"}]}'), "Field required"),
    ],
)
def test_a_request_without_an_answer_is_set_aside(reply: Reply, fault: str) -> None:
    with ChatServer(reply) as server:
        response = ask(server)
    assert response.text == ""
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError(response.fault)
    assert len(server.requests) == 1


def test_an_answer_after_thinking_is_read_without_the_thinking() -> None:
    content = json.dumps({"organ": "skin", "grade": 1})
    with ChatServer(message(content, reasoning_content="Layers of keratin.", tool_calls=[])) as server:
        assert answer(server) == Answer(organ="skin", grade=1)


def test_a_fenced_answer_is_read() -> None:
    with ChatServer(completion('```json\n{"organ": "skin", "grade": 1}\n```')) as server:
        assert answer(server).organ == "skin"


class Echo(ChatServer):
    """Answers each request with its own question, the later the request the sooner."""

    def answer(self, request: Mapping[str, Any]) -> Reply:
        question = request["messages"][0]["content"]
        return completion(question)._replace(wait_s=0.3 - 0.02 * int(question))


def test_as_many_requests_as_configured_are_under_way_and_responses_stand_in_order() -> None:
    requests = [Request([text_message("user", str(number))]) for number in range(12)]
    for concurrency in (1, 4):
        with Echo() as server:
            heard: list[tuple[int, Response]] = []
            responses = engine(server.url, concurrency=concurrency).generate(
                requests,
                lambda *numbered: heard.append(numbered),  # noqa: B023 (called before the next round)
            )
        assert [response.text for response in responses] == [str(number) for number in range(12)]
        assert sorted(number for number, _ in heard) == list(range(12))
        assert all(response == responses[number] for number, response in heard)
        assert ([number for number, _ in heard] == list(range(12))) == (concurrency == 1)
        assert server.most_under_way == concurrency


def test_what_is_under_way_is_finished_and_nothing_more_is_sent_once_the_endpoint_is_down() -> None:
    slow = GOOD._replace(wait_s=0.3)
    heard: dict[int, Response] = {}
    with ChatServer(slow, Reply(401), slow, GOOD) as server:
        with pytest.raises(EndpointUnavailable, match="401"):
            engine(server.url, concurrency=3).generate(
                [REQUEST] * 9, lambda number, response: heard.update({number: response})
            )
        assert len(server.requests) == 3
    assert len(heard) == 2


def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    with pytest.raises(ConfigError, match="THE_KEY"):
        engine("http://127.0.0.1:1/v1", api_key_variable="THE_KEY")
