"""A small Kubeflow Pipelines API server: the routes that `pathoflow submit` uses, over real HTTP."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

RUN_ID = "8d3f1c52-0f4b-4a3e-9d2c-6a1b7e5f9c00"


@dataclass
class KfpServer:
    """What the server was told, and how it answers.

    Attributes:
        url: Its address.
        token: What it wants as bearer token; None lets everybody in.
        multi_user: Whether each user has a namespace.
        experiments: Ids by name and namespace.
        runs: The bodies of the runs that were started.
        refuse: Status and message for each request, if set.
        page: What it answers instead of data, as a login page does.
    """

    url: str = ""
    token: str | None = None
    multi_user: bool = False
    experiments: dict[tuple[str, str | None], str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    refuse: tuple[int, str] | None = None
    page: str | None = None


@contextmanager
def kfp_server(certificate: Path | None = None) -> Iterator[KfpServer]:
    """Starts the server on a free port.

    Args:
        certificate: A PEM file with key and certificate, for TLS.
    """
    state = KfpServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._handle(_get)

        def do_POST(self) -> None:
            self._handle(_post)

        def _handle(self, route: Any) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            if state.page is not None:
                return self._send(200, state.page.encode(), "text/html")
            if state.refuse:
                status, answer = state.refuse[0], {"code": 16, "message": state.refuse[1]}
            elif state.token and self.headers.get("Authorization") != f"Bearer {state.token}":
                told = f"Unauthenticated: {self.headers.get('Authorization')}"
                status, answer = 401, {"code": 16, "message": told}
            else:
                status, answer = route(state, address.path, query, body)
            self._send(status, json.dumps(answer).encode(), "application/json")
            return None

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.url = f"{'https' if certificate else 'http'}://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _get(state: KfpServer, path: str, query: dict[str, str], body: Any) -> tuple[int, dict[str, Any]]:
    if path == "/apis/v2beta1/healthz":
        return 200, {"multi_user": state.multi_user}
    if path == "/apis/v2beta1/experiments":
        if state.multi_user != ("namespace" in query):
            return 400, {"code": 3, "message": "Invalid input error: namespace and multi-user mode do not match"}
        [predicate] = json.loads(query["filter"])["predicates"]
        assert (predicate["operation"], predicate["key"]) == ("EQUALS", "name")
        key = (predicate["stringValue"], query.get("namespace"))
        if key not in state.experiments:
            return 200, {}
        return 200, {"experiments": [{"experiment_id": state.experiments[key], "display_name": key[0]}]}
    return 404, {"code": 5, "message": "Not Found"}


def _post(state: KfpServer, path: str, query: dict[str, str], body: Any) -> tuple[int, dict[str, Any]]:
    if path == "/apis/v2beta1/experiments":
        experiment_id = f"experiment-{len(state.experiments)}"
        state.experiments[body["display_name"], body.get("namespace")] = experiment_id
        return 200, {"experiment_id": experiment_id, "display_name": body["display_name"]}
    if path == "/apis/v2beta1/runs":
        try:
            json_format.ParseDict(body["pipeline_spec"]["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
            json_format.ParseDict(body["pipeline_spec"]["platform_spec"], pipeline_spec_pb2.PlatformSpec())
        except json_format.ParseError as error:
            return 400, {"code": 3, "message": str(error)}
        state.runs.append(body)
        return 200, {"run_id": RUN_ID, "display_name": body["display_name"]}
    return 404, {"code": 5, "message": "Not Found"}
