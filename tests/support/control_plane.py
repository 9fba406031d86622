"""A Kubernetes API server of a test's own, which may be killed, restarted and made to forget.

It takes `etcd` and `kube-apiserver` from the folder that `KUBEBUILDER_ASSETS` names, as envtest does, or from the
path, and is skipped without them. There are no controllers: nothing deletes what an owner has left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from kubernetes import client, config

from pathoflow.system.processes import die_with_parent
from tests.support.kube import wait_until
from tests.support.s3_server import free_port

ASSETS = "KUBEBUILDER_ASSETS"
_TOKEN = "an-administrator"


class ControlPlane:
    """An API server and its etcd.

    Args:
        folder: For what they keep and say.
        programs: Paths of `etcd` and of `kube-apiserver`.
    """

    def __init__(self, folder: Path, programs: tuple[str, str]) -> None:
        self._folder = folder
        self._etcd, self._server = programs
        self._etcd_port, self.port = free_port(), free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        key = rsa.generate_private_key(65537, 2048)
        self._key = folder / "account.key"
        self._key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        (folder / "tokens.csv").write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
        self.kubeconfig = folder / "kubeconfig"
        self._certificate = folder / "apiserver.crt"
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self._certificate)}
        self.kubeconfig.write_text(kubeconfig_of(cluster, {"token": _TOKEN}))

    def start(self) -> None:
        """Starts both, and waits until they answer."""
        address, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, free_port()))
        etcd = [self._etcd, "--data-dir", str(self._folder / "etcd"), "--unsafe-no-fsync", "--log-level=error"]
        etcd += ["--listen-client-urls", address, "--advertise-client-urls", address, "--listen-peer-urls", peer]
        etcd += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        self._start("etcd", etcd)
        self.start_server()

    def start_server(self) -> None:
        """Starts the API server, and waits until it answers."""
        account = "https://kubernetes.default.svc"
        server = [self._server, f"--etcd-servers=http://127.0.0.1:{self._etcd_port}", f"--secure-port={self.port}"]
        server += ["--bind-address=127.0.0.1", f"--cert-dir={self._folder}", "--authorization-mode=RBAC"]
        server += [f"--token-auth-file={self._folder / 'tokens.csv'}", f"--service-account-issuer={account}"]
        server += [f"--service-account-{what}-file={self._key}" for what in ("key", "signing-key")]
        # Without controllers nobody makes the accounts that it would wait for.
        server += ["--disable-admission-plugins=ServiceAccount", "--service-cluster-ip-range=10.96.0.0/16"]
        self._start("server", server)
        wait_until(self._is_ready, 60, 0.1)

    def stop_server(self) -> None:
        """Kills the API server."""
        server = self._processes.pop("server")
        server.kill()
        server.wait()

    def forget(self) -> None:
        """Has etcd forget all that is past."""
        address = f"http://127.0.0.1:{self._etcd_port}/v3/kv"
        state = urllib3.request("POST", f"{address}/range", json={"key": "AA=="}).json()
        done = urllib3.request("POST", f"{address}/compaction", json={"revision": state["header"]["revision"]})
        assert done.status == 200, done.data

    def close(self) -> None:
        """Kills both."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def client(self) -> client.ApiClient:
        """A client that may do everything."""
        return config.new_client_from_config(str(self.kubeconfig))

    def _start(self, name: str, command: list[str]) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )
        self._processes[name] = process

    def _is_ready(self) -> bool:
        code = self._processes["server"].poll()
        assert code is None, (self._folder / "server.log").read_text()[-2000:]
        if not self._certificate.is_file():
            return False
        try:
            self.client().call_api("/readyz", "GET", auth_settings=["BearerToken"], _request_timeout=5)
        except (client.ApiException, urllib3.exceptions.HTTPError):
            return False
        return True


def kubeconfig_of(cluster: dict[str, object], user: dict[str, object]) -> str:
    """A kubeconfig of one cluster and one user."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
    )


@contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """A control plane for the length of a `with` block; skips the test where its programs are missing."""
    path = os.pathsep.join([os.environ.get(ASSETS, ""), os.environ.get("PATH", "")])
    found = [shutil.which(name, path=path) for name in ("etcd", "kube-apiserver")]
    etcd, server = found
    if not etcd or not server:
        pytest.skip(f"neither {ASSETS} nor the path has etcd and kube-apiserver")
    plane = ControlPlane(folder, (etcd, server))
    try:
        plane.start()
        yield plane
    finally:
        plane.close()
