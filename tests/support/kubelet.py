"""Plays the kubelet of one node, as far as the API server asks it for the logs of pods."""

from __future__ import annotations

import ssl
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from tests.support.certificates import make_certificate


class Kubelet:
    """A node whose pods have logs, for the length of a `with` block. No scheduler puts pods there.

    Args:
        api: A client that may do everything.
        folder: For the certificate.
    """

    def __init__(self, api: client.ApiClient, folder: Path) -> None:
        self._core = client.CoreV1Api(api)
        self._certificate = folder / "kubelet.pem"
        self.node = f"pathoflow-test-{uuid.uuid4().hex[:8]}"
        self.logs: dict[str, list[str]] = {}
        """The lines of each pod's log."""

    def __enter__(self) -> Kubelet:
        make_certificate(self._certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.kubelet = self
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self._core.create_node({"metadata": {"name": self.node}, "spec": {"unschedulable": True}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_address[1]}},
        }
        self._core.patch_node_status(self.node, {"status": status})
        return self

    def __exit__(self, *_: object) -> None:
        self._core.delete_node(self.node)
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    kubelet: Kubelet


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        *_, pod, container = address.path.split("/")
        lines = self.server.kubelet.logs.get(pod)
        self.send_response(200 if lines is not None else 404)
        self.end_headers()
        number = int(parse_qs(address.query).get("tailLines", ["0"])[0])
        self.wfile.write("".join(f"{line}\n" for line in (lines or [f"no {container}"])[-number:]).encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""
