"""A client of OpenAI-compatible chat endpoints: retries, time limits, and answers that obey a schema.

```
ChatUnavailable   nothing comes from the endpoint, or it refuses us: the stage stops, and the same command goes on later
UnusableAnswer    this one request has no usable answer: the record is set aside, and the rest goes on
```
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import urllib3
from pydantic import BaseModel, ValidationError

from pathoflow.errors import ConfigError, StageError

M = TypeVar("M", bound=BaseModel)
Message = Mapping[str, Any]

# What a busy or restarting server says; anything else it would say again.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
# The server does not take this one request: too long, or an image that it cannot read.
_REFUSED_REQUEST = frozenset({400, 413, 422})
_CONNECT_TIMEOUT_S = 10.0
_MAX_WAIT_S = 60
_NUM_ASKS = 2
_EXCERPT = 200


class ChatUnavailable(StageError):
    """The endpoint cannot be reached, stays busy, or refuses this client."""


class UnusableAnswer(ValueError):
    """One request got no answer that could be used."""


class ChatClient:
    """Asks one model behind one endpoint.

    Args:
        endpoint: Address up to and including the version, as in `https://host/v1`.
        model: The model's name there.
        api_key_variable: Environment variable that holds the key; empty where the endpoint wants none.
        timeout_s: Longest wait for an answer to one request, in seconds.
        max_retries: How often a request is sent again after an answer that says "later", or none.
        max_tokens: Longest answer.
        backoff_s: The wait before the second repetition in seconds; it doubles each time. A server that says how
            long to wait is obeyed instead.

    Raises:
        ConfigError: The environment variable is not set.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        api_key_variable: str = "",
        timeout_s: float = 120.0,
        max_retries: int = 5,
        max_tokens: int = 4096,
        backoff_s: float = 1.0,
    ) -> None:
        self._url = endpoint.rstrip("/") + "/chat/completions"
        self._model = model
        self._max_tokens = max_tokens
        self._headers = {"Content-Type": "application/json"}
        if api_key_variable:
            key = os.environ.get(api_key_variable)
            if not key:
                raise ConfigError(f"{endpoint} needs a key: put it in the environment variable {api_key_variable}.")
            self._headers["Authorization"] = f"Bearer {key}"
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=timeout_s),
            retries=urllib3.Retry(
                total=max_retries,
                # The key goes nowhere but where the configuration says.
                redirect=0,
                status_forcelist=_PASSING,
                allowed_methods={"POST"},
                backoff_factor=backoff_s,
                backoff_max=_MAX_WAIT_S,
                raise_on_status=False,
                raise_on_redirect=False,
            ),
        )

    def ask(self, messages: Sequence[Message], answer: type[M]) -> M:
        """The model's answer at temperature 0, as the shape that was asked for.

        A malformed answer is asked for once more, under another seed.

        Raises:
            ChatUnavailable: The endpoint cannot be reached, stays busy, or refuses this client.
            UnusableAnswer: It answered, but not in that shape; or it does not take this request.
        """
        wanted = {"name": answer.__name__, "schema": answer.model_json_schema(), "strict": True}
        request: dict[str, Any] = {
            "model": self._model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": self._max_tokens,
            "response_format": {"type": "json_schema", "json_schema": wanted},
        }
        problem = ""
        for seed in range(_NUM_ASKS):
            text = self._send(request | {"seed": seed})
            try:
                return answer.model_validate_json(_without_fence(text))
            except ValidationError as error:
                problem = f"{error.error_count()} faults in {text[:_EXCERPT]!r}, the first: {error.errors()[0]['msg']}"
        raise UnusableAnswer(problem)

    def _send(self, request: Mapping[str, Any]) -> str:
        body = json.dumps(request, ensure_ascii=False).encode()
        try:
            response = self._pool.request("POST", self._url, body=body, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            raise ChatUnavailable(
                f"{self._url} gives no answer ({cause}). See that it runs, and run the same command again: "
                "what it has answered is kept."
            ) from error
        if response.status in _REFUSED_REQUEST:
            raise UnusableAnswer(f"{self._url} refuses the request ({response.status}): {_excerpt(response.data)}")
        if response.status != 200:
            raise ChatUnavailable(
                f"{self._url} answers {response.status}: {_excerpt(response.data)}. Check its address, the model's "
                "name, the key and its limits, and run the same command again: what it has answered is kept."
            )
        return _content(response.data)


def image_part(jpeg: bytes) -> dict[str, Any]:
    """A JPEG as part of a message.

    >>> image_part(b"x")["image_url"]["url"]
    'data:image/jpeg;base64,eA=='
    """
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _content(body: bytes) -> str:
    """The text of the first choice in a response."""
    try:
        choice = json.loads(body)["choices"][0]
        content = choice["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise UnusableAnswer(f"no completion in {_excerpt(body)}") from error
    if choice.get("finish_reason") == "length":
        raise UnusableAnswer("the answer was cut at max_tokens")
    if not isinstance(content, str) or not content:
        raise UnusableAnswer(f"an empty answer in {_excerpt(body)}")
    return content


def _without_fence(text: str) -> str:
    r"""The JSON in an answer that a server without schemas may have put in a Markdown fence.

    >>> _without_fence("```json\n{}\n```")
    '{}'
    """
    text = text.strip()
    if text.startswith("```"):
        text = text.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    return text


def _excerpt(body: bytes) -> str:
    return body[:_EXCERPT].decode(errors="replace").strip()
