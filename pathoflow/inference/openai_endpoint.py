"""The engine for models behind OpenAI-compatible endpoints (OpenAI, vLLM, SGLang and others)."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import openai
import tenacity
from PIL import Image
from pydantic import ValidationError

from pathoflow.errors import ConfigError, StageError
from pathoflow.inference.endpoint import Endpoint
from pathoflow.inference.protocol import Request, Response

# Statuses of a busy or restarting server; it would repeat any other one.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
# The server does not take this one request: too long, or an image that it cannot read.
_REFUSED_REQUEST = frozenset({400, 413, 422})
_CONNECT_TIMEOUT_S = 10.0
_MAX_WAIT_S = 60.0
_NUM_ASKS = 2
_EXCERPT = 200


class EndpointUnavailable(StageError):
    """The endpoint cannot be reached, stays busy, or refuses this client: the stage stops, and can go on later."""


class _UnusableAnswer(ValueError):
    """One request got no answer that can be used."""


class OpenAIEndpoint:
    """Sends requests to one model behind one endpoint, several at a time.

    Args:
        endpoint: Address, model, key and limits.
        backoff_s: Wait before the first repetition in seconds; it doubles each time, up to a minute. A server's
            `Retry-After` is obeyed instead.

    Raises:
        ConfigError: The key's environment variable is not set.
    """

    def __init__(self, endpoint: Endpoint, *, backoff_s: float = 1.0) -> None:
        self._endpoint = endpoint
        self._key = ""
        if endpoint.api_key_variable:
            self._key = os.environ.get(endpoint.api_key_variable, "")
            if not self._key:
                raise ConfigError(
                    f"{endpoint.url} needs a key: put it in the environment variable {endpoint.api_key_variable}."
                )
        self._backoff = tenacity.wait_exponential(multiplier=backoff_s, max=_MAX_WAIT_S)
        # The system's certificates, and with them those of a site's own authority.
        self._certificates = ssl.create_default_context()

    def generate(
        self, requests: Iterable[Request], on_response: Callable[[int, Response], None] | None = None
    ) -> list[Response]:
        """Returns a response to each request, in the requests' order, at temperature 0.

        Requests are taken from `requests` as they are sent. A response that does not fit its request's schema is
        asked for once more, under another seed; one without a usable answer says why.

        Args:
            requests: What is asked.
            on_response: Called with each request's number and its response as soon as it is there.

        Raises:
            EndpointUnavailable: The endpoint cannot be reached, stays busy, or refuses this client. Requests that
                were under way have been finished first.
        """
        return asyncio.run(self._generate(enumerate(requests), on_response or (lambda number, response: None)))

    async def _generate(
        self, numbered: Iterator[tuple[int, Request]], on_response: Callable[[int, Response], None]
    ) -> list[Response]:
        responses: dict[int, Response] = {}
        stopped = False

        async def work(client: openai.AsyncOpenAI) -> None:
            nonlocal stopped
            for number, request in numbered:
                try:
                    responses[number] = await self._respond(client, request)
                    on_response(number, responses[number])
                except BaseException:
                    stopped = True
                    raise
                if stopped:
                    return

        async with self._client() as client:
            workers = [work(client) for _ in range(self._endpoint.concurrency)]
            outcomes = await asyncio.gather(*workers, return_exceptions=True)
        for error in filter(None, outcomes):
            raise error
        return [responses[number] for number in sorted(responses)]

    def _client(self) -> openai.AsyncOpenAI:
        limits = openai.Timeout(self._endpoint.timeout_s, connect=_CONNECT_TIMEOUT_S)
        return openai.AsyncOpenAI(
            # An empty one would be looked for in the environment.
            api_key=self._key or "none",
            base_url=self._endpoint.url,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                timeout=limits,
                verify=self._certificates,
                trust_env=False,
                # The key goes nowhere but where the configuration says.
                follow_redirects=False,
            ),
        )

    async def _respond(self, client: openai.AsyncOpenAI, request: Request) -> Response:
        body: dict[str, Any] = {"model": self._endpoint.model, "messages": _with_images(request), "temperature": 0}
        body["max_tokens"] = self._endpoint.max_tokens
        if request.schema is not None:
            wanted = {"name": request.schema.__name__, "schema": request.schema.model_json_schema(), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        fault = ""
        for seed in range(_NUM_ASKS):
            try:
                text = await self._send(client, body | {"seed": seed})
                if request.schema is None:
                    return Response(text)
                text = _without_fence(text)
                request.schema.model_validate_json(text)
            except ValidationError as error:
                fault = f"{error.error_count()} faults in {text[:_EXCERPT]!r}, the first: {error.errors()[0]['msg']}"
            except _UnusableAnswer as error:
                return Response("", self._redacted(str(error)))
            else:
                return Response(text)
        return Response("", self._redacted(fault))

    async def _send(self, client: openai.AsyncOpenAI, body: Mapping[str, Any]) -> str:
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_passes),
            stop=tenacity.stop_after_attempt(self._endpoint.max_retries + 1),
            wait=self._wait,
            reraise=True,
        )
        # The environment's account at OpenAI is not for other endpoints.
        omitted = ["OpenAI-Organization", "OpenAI-Project", *([] if self._key else ["Authorization"])]
        address = f"{self._endpoint.url.rstrip('/')}/chat/completions"
        try:
            raw: Any = await attempts(
                client.chat.completions.with_raw_response.create,
                **body,
                extra_headers={name: openai.Omit() for name in omitted},
            )
        except openai.APIStatusError as error:
            answer = self._redacted(_excerpt(error.response.content))
            if error.status_code in _REFUSED_REQUEST:
                raise _UnusableAnswer(f"{address} refuses the request ({error.status_code}): {answer}") from error
            raise EndpointUnavailable(
                f"{address} answers {error.status_code}: {answer}. Check its address, the model's name, the key and "
                "its limits, and run the same command again: finished requests are kept."
            ) from None
        except openai.APIConnectionError as error:
            raise EndpointUnavailable(
                f"{address} gives no answer ({error.__cause__ or error}). See that it runs, and run the same command "
                "again: finished requests are kept."
            ) from error
        return _content(raw.content)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Returns the seconds to wait: what the server says, or more each time."""
        error = state.outcome.exception() if state.outcome else None
        said = error.response.headers.get("Retry-After", "") if isinstance(error, openai.APIStatusError) else ""
        return float(said) if said.isdecimal() else self._backoff(state)

    def _redacted(self, text: str) -> str:
        """Returns the text without the key, which some servers repeat."""
        return text.replace(self._key, "[key]") if self._key else text


def _passes(error: BaseException) -> bool:
    """Returns whether the same request may be answered later."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in _PASSING
    return isinstance(error, openai.APIConnectionError)


def _with_images(request: Request) -> list[dict[str, Any]]:
    """Returns the messages with each image in its place; text alone stands as plain text."""
    images = iter(request.images)
    messages = []
    for message in request.messages:
        parts = [_image_part(next(images)) if part["type"] == "image" else part for part in message["content"]]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        messages.append({"role": message["role"], "content": parts if len(texts) < len(parts) else "".join(texts)})
    return messages


def _image_part(data: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(data)) as image:
        kind = Image.MIME[image.format or "PNG"]
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{base64.b64encode(data).decode()}"}}


def _content(body: bytes) -> str:
    """Returns the text of the first choice in a response."""
    try:
        choice = json.loads(body)["choices"][0]
        content = choice["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise _UnusableAnswer(f"no completion in {_excerpt(body)}") from error
    if choice.get("finish_reason") == "length":
        raise _UnusableAnswer("the answer was cut at max_tokens")
    if not isinstance(content, str) or not content:
        raise _UnusableAnswer(f"an empty answer in {_excerpt(body)}")
    return content


def _without_fence(text: str) -> str:
    r"""Returns the JSON in an answer that a server without schemas may have put in a Markdown fence.

    >>> _without_fence("```json\n{}\n```")
    '{}'
    """
    text = text.strip()
    if text.startswith("```"):
        text = text.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    return text


def _excerpt(body: bytes) -> str:
    return body[:_EXCERPT].decode(errors="replace").strip()
