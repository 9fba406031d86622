from __future__ import annotations

import socket
import time

import pytest
from pydantic import BaseModel, ConfigDict

from pathoflow.errors import ConfigError
from pathoflow.inference.chat import ChatClient, ChatUnavailable, UnusableAnswer
from tests.support.chat_server import ChatServer, Reply, completion


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    organ: str
    grade: int


MESSAGES = [{"role": "user", "content": "What is it?"}]
GOOD = completion({"organ": "breast", "grade": 2})


def client(server: ChatServer, **options: object) -> ChatClient:
    return ChatClient(server.url, "a-model", **{"backoff_s": 0.01, "max_retries": 2, "timeout_s": 5} | options)


def test_the_request_asks_for_the_answers_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "s3cret")
    with ChatServer(GOOD) as server:
        assert client(server, api_key_variable="THE_KEY").ask(MESSAGES, Answer) == Answer(organ="breast", grade=2)
    (request,) = server.requests
    assert server.paths == ["/v1/chat/completions"]
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert (request["model"], request["temperature"], request["messages"]) == ("a-model", 0, MESSAGES)
    schema = request["response_format"]["json_schema"]
    assert request["response_format"]["type"] == "json_schema"
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["organ", "grade"]
    assert schema["schema"]["additionalProperties"] is False


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_for_a_while_is_asked_again(status: int) -> None:
    with ChatServer(Reply(status), Reply(status), GOOD) as server:
        assert client(server).ask(MESSAGES, Answer).grade == 2
    assert len(server.requests) == 3


def test_a_server_that_says_how_long_to_wait_is_obeyed() -> None:
    with ChatServer(Reply(429, headers=(("Retry-After", "1"),)), GOOD) as server:
        started = time.monotonic()
        client(server).ask(MESSAGES, Answer)
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize(
    "reply",
    [Reply(500), Reply(401, b"no such key"), Reply(404), Reply(302, headers=(("Location", "http://127.0.0.1:9/"),))],
)
def test_a_server_that_will_not_answer_stops_the_stage(reply: Reply) -> None:
    with ChatServer(reply) as server, pytest.raises(ChatUnavailable, match=str(reply.status)):
        client(server).ask(MESSAGES, Answer)
    assert len(server.requests) == (3 if reply.status == 500 else 1)


def test_a_server_that_is_silent_is_asked_again_and_then_given_up() -> None:
    with ChatServer(Reply(wait_s=0.6)) as server, pytest.raises(ChatUnavailable, match="run the same command again"):
        client(server, timeout_s=0.1, max_retries=1).ask(MESSAGES, Answer)
    assert len(server.requests) == 2


def test_a_server_that_is_not_there_stops_the_stage() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ChatUnavailable, match=address):
            ChatClient(address, "a-model", max_retries=1, backoff_s=0.01).ask(MESSAGES, Answer)


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
        assert client(server).ask(MESSAGES, Answer).organ == "breast"
    assert [request["seed"] for request in server.requests] == [0, 1]
    with ChatServer(reply) as server, pytest.raises(UnusableAnswer):
        client(server).ask(MESSAGES, Answer)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>"),
        Reply(200, b'{"choices": []}'),
        completion(""),
        completion('{"organ"', "length"),
        Reply(400, b"the image is too large"),
    ],
)
def test_a_request_without_an_answer_is_set_aside(reply: Reply) -> None:
    with ChatServer(reply) as server, pytest.raises(UnusableAnswer):
        client(server).ask(MESSAGES, Answer)


def test_a_fenced_answer_is_read() -> None:
    with ChatServer(completion('```json\n{"organ": "skin", "grade": 1}\n```')) as server:
        assert client(server).ask(MESSAGES, Answer).organ == "skin"


def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    with pytest.raises(ConfigError, match="THE_KEY"):
        ChatClient("http://127.0.0.1:1/v1", "a-model", api_key_variable="THE_KEY")
