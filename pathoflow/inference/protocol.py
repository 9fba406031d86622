"""Requests to a model and its responses, whatever engine serves the model.

Engines: `transformers_engine` runs a loaded model in this process, `openai_endpoint` asks a server. Another one needs
`generate` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel


# Compared by identity: an engine may keep what it made of a request while the request lives.
@dataclass(frozen=True, eq=False)
class Request:
    """A conversation up to where the model is to speak.

    Attributes:
        messages: As chat templates want them; each image stands in them as a part `{"type": "image"}`.
        images: The encoded images, in the order of their places.
        schema: Shape of the response as JSON; None for free text.
        name: Names the request in messages to the user.
    """

    messages: Sequence[Mapping[str, Any]]
    images: Sequence[bytes] = ()
    schema: type[BaseModel] | None = None
    name: str = ""


@dataclass(frozen=True)
class Response:
    """The model's answer to one request.

    Attributes:
        text: The answer, which validates against the request's schema if it has one; empty where there is none.
        fault: Why there is no usable answer to this request; None if there is one.
    """

    text: str
    fault: str | None = None


class Engine(Protocol):
    """Answers requests greedily."""

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Returns a response to each request, in the requests' order."""
