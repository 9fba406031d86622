"""A proxy before a Kubernetes API server, which counts requests and makes what goes wrong with networks and servers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kubernetes import client
from urllib3.exceptions import HTTPError

from tests.support.control_plane import kubeconfig_of


@dataclass
class Fault:
    """What goes wrong with the next `count` requests of a method whose address contains `text`.

    Attributes:
        kind: `cut` breaks the connection in the middle of the answer, `end` ends the answer, `hang` sends no word;
            a number is the status of a refusal.
        text: Part of the address; watches have `watch=True`.
        method: The method; empty for all.
        count: How many requests.
        after_s: For `cut` and `end`: so long after its beginning.
    """

    kind: str
    text: str = ""
    method: str = ""
    count: int = 1
    after_s: float = 0.0


class ApiProxy:
    """The proxy, which speaks HTTP and adds the credentials of whoever made it to requests without any.

    Args:
        api: The way to the API server.
        folder: Gets a kubeconfig for whoever is to use the proxy.
    """

    def __init__(self, api: client.ApiClient, folder: Path) -> None:
        self._api = api
        self.requests: list[tuple[float, str, str]] = []
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        self._connections: set[Any] = set()
        self._server = self._listen(0)
        self.port = int(self._server.server_address[1])
        self.kubeconfig = folder / f"proxy-{self.port}"
        self.kubeconfig.write_text(kubeconfig_of({"server": f"http://127.0.0.1:{self.port}"}, {}))

    def refuse(self) -> None:
        """Breaks all connections, and refuses new ones."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(2)

    def accept(self) -> None:
        """Takes connections again."""
        self._server = self._listen(self.port)

    def count(self, text: str = "", since: float = 0.0) -> int:
        """How many requests with such an address there were."""
        return sum(at >= since and text in address for at, _, address in self.requests)

    def _listen(self, port: int) -> ThreadingHTTPServer:
        server = _Server(("127.0.0.1", port), _Handler)
        server.proxy = self
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    def fault_of(self, method: str, address: str) -> Fault | None:
        """What is to go wrong with a request."""
        with self._lock:
            self.requests.append((time.monotonic(), method, address))
            for fault in self.faults:
                if fault.count > 0 and fault.method in ("", method) and fault.text in address:
                    fault.count -= 1
                    return fault
        return None

    def pass_on(self, method: str, address: str, headers: dict[str, str], body: bytes | None) -> Any:
        """The API server's answer, not read yet."""
        settings = self._api.configuration
        if "Authorization" not in headers:
            for given in settings.auth_settings().values():
                headers[given["key"]] = given["value"]
        return self._api.rest_client.pool_manager.request(
            method, settings.host + address, headers=headers, body=body, preload_content=False, retries=0
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: ApiProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed in the middle are what tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.proxy._connections.add(self.connection)

    def finish(self) -> None:
        self.server.proxy._connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        fault = self.server.proxy.fault_of(self.command, self.path)
        if fault and fault.kind.isdigit():
            self.refuse(int(fault.kind))
            return
        if fault and fault.kind == "hang":
            time.sleep(60)
            return
        passed = ("accept", "authorization", "content-type", "user-agent")
        headers = {name: value for name, value in self.headers.items() if name.lower() in passed}
        with suppress(HTTPError, OSError):
            self.relay(self.server.proxy.pass_on(self.command, self.path, headers, body), fault)
            return
        self.close_connection = True

    def refuse(self, status: int) -> None:
        reason = {410: "Expired", 429: "TooManyRequests", 503: "ServiceUnavailable"}.get(status, "Refused")
        body = json.dumps({"kind": "Status", "reason": reason, "message": "made by the test", "code": status}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def relay(self, answer: Any, fault: Fault | None) -> None:
        """Sends an answer on as it comes, up to where it is to end."""
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if fault:
            time.sleep(fault.after_s)
        else:
            for data in answer.stream(65536, decode_content=False) if not answer.chunked else answer.read_chunked():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
        answer.close()
        if fault and fault.kind == "cut":
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_DELETE = do_PATCH = answer  # noqa: N815 (the names that http.server looks for)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""


@contextmanager
def api_proxy(api: client.ApiClient, folder: Path) -> Iterator[ApiProxy]:
    """A proxy for the length of a `with` block."""
    proxy = ApiProxy(api, folder)
    try:
        yield proxy
    finally:
        proxy.refuse()
