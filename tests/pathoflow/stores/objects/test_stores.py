"""Object stores: a folder, an S3 endpoint that ignores conditions, and one that honours them."""

from __future__ import annotations

import base64
import hashlib
import multiprocessing
import os
import re
import signal
import time

import pytest
from minio.objectlockconfig import ObjectLockConfig
from minio.xml import unmarshal

from pathoflow.errors import BusyError, RegistryError
from pathoflow.stores.objects import ObjectStore, open_store
from pathoflow.stores.objects import bucket as bucket_module
from pathoflow.stores.objects.bucket import CHUNK_BYTES, Bucket, MissingObjectError
from tests.support.s3_server import BUCKET, Fault, s3_server

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with (
        s3_server(tmp_path_factory.mktemp("plain") / "s3") as plain,
        s3_server(tmp_path_factory.mktemp("conditional") / "s3", conditional=True) as conditional,
    ):
        yield {"s3": plain, "conditional s3": conditional}


@pytest.fixture(params=["folder", "s3", "conditional s3"])
def location(request, tmp_path, servers, monkeypatch) -> str:
    if request.param == "folder":
        return str(tmp_path / "a store")
    for name, value in servers[request.param].environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def store(location) -> ObjectStore:
    return open_store(location)


@pytest.fixture
def faulty(servers, monkeypatch, tmp_path):
    """A store and the server behind it, whose faults a test sets."""
    server = servers["conditional s3"]
    server.faults.clear()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield open_store(f"s3://{BUCKET}/{tmp_path.name}"), server
    server.faults.clear()


def test_objects_are_written_replaced_listed_and_removed(store):
    assert store.get("log/1.json") is None
    assert store.list("log/") == []
    store.put("log/1.json", b"one")
    store.put("log/größe 病理+%2F.json", b"")
    store.put("other/1.json", b"x")
    store.put("log/1.json", b"two")
    assert store.get("log/1.json") == b"two"
    assert store.get("log/größe 病理+%2F.json") == b""
    assert store.list("log/") == ["log/1.json", "log/größe 病理+%2F.json"]
    assert store.list("log/1") == ["log/1.json"]
    store.delete("log/1.json")
    store.delete("log/1.json")
    assert store.list("log/") == ["log/größe 病理+%2F.json"]


def test_what_exists_is_not_written_again(store):
    assert store.put_if_absent("log/1", b"first")
    assert not store.put_if_absent("log/1", b"second")
    assert store.get("log/1") == b"first"
    # The same writer, who does not know whether its first try arrived.
    assert store.put_if_absent("log/1", b"first")
    assert store.guarantee


def test_what_keeps_objects_is_told(store, location, monkeypatch):
    assert "nothing else" in store.retention
    if location.startswith("s3://"):
        rule = "<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>365</Days></DefaultRetention></Rule>"
        for content, words in ((rule, r"Object Lock \(compliance, 365 days\)"), ("", "no Object Lock with a default")):
            found = unmarshal(ObjectLockConfig, f"<ObjectLockConfiguration>{content}</ObjectLockConfiguration>")
            monkeypatch.setattr(store._bucket._client, "get_object_lock_config", lambda bucket, found=found: found)
            assert re.search(words, store.retention)


def test_conditional_writes_carry_the_digest_that_object_lock_asks_for(faulty):
    store, server = faulty
    assert store.put_if_absent("log/1", b"content")
    assert server.digests[-1] == base64.b64encode(hashlib.md5(b"content").digest()).decode()


def test_keys_stay_inside_and_locations_are_known(tmp_path):
    for key in ("../escape", "/etc/passwd", "a/../../b", ""):
        with pytest.raises(RegistryError, match="no key"):
            open_store(str(tmp_path / "store")).put(key, b"")
    with pytest.raises(RegistryError, match="is no object store"):
        open_store("ftp://host/x")
    with pytest.raises(RegistryError, match="names no bucket"):
        open_store("s3:///x")


def _count_up(location: str, num_times: int) -> None:
    store = open_store(location)
    for _ in range(num_times):
        with store.lock("counter", 60) as check:
            value = int(store.get("counter") or b"0")
            check()
            store.put("counter", str(value + 1).encode())


def test_the_lock_keeps_writers_apart(location, store):
    workers = [FORK.Process(target=_count_up, args=(location, 3)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert store.get("counter") == b"12"


def _hold(location: str, held) -> None:
    with open_store(location).lock("one", 10):
        held.set()
        time.sleep(60)


@pytest.fixture
def holder(location):
    held = FORK.Event()
    process = FORK.Process(target=_hold, args=(location, held))
    process.start()
    assert held.wait(20)
    yield process
    process.kill()
    process.join()


def test_a_lock_is_waited_for_and_outlives_no_process(store, holder):
    with pytest.raises(BusyError), store.lock("one", 0.3):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with store.lock("one", 20):
        pass


def test_a_holder_elsewhere_that_renews_no_more_loses_the_lock(faulty, monkeypatch):
    store, _ = faulty
    monkeypatch.setenv("PATHOFLOW_LEASE_S", "2")
    with store.lock("one", 5) as check:
        [ticket] = store.list("locks/one/")
        # It is renewed, so that it does not run out.
        with pytest.raises(BusyError), store.lock("one", 3):
            pass
        check()
        store.delete(ticket)
        time.sleep(2)
        with pytest.raises(RegistryError, match="was lost"):
            check()
    store.put("locks/one/000000000001-elsewhere", b'{"host": "elsewhere", "pid": 1, "started": 1}')
    started = time.monotonic()
    with store.lock("one", 30):
        assert time.monotonic() - started > 2
    assert store.list("locks/one/") == []


@pytest.mark.parametrize("kind", ["503", "reset", "reset_after", "slow", "wrong", "cut"])
def test_a_passing_fault_is_not_noticed(faulty, kind, monkeypatch):
    store, server = faulty
    monkeypatch.setattr(bucket_module, "_FIRST_PAUSE_S", 0.01)
    for number, method in enumerate(("PUT", "GET", "DELETE")):
        server.faults.append(Fault(kind, method, count=2))
        assert store.put_if_absent(f"log/{number}", b"content")
        store.put("head", b"content")
        assert store.get("head") == b"content"
        assert f"log/{number}" in store.list("log/")
        store.delete("head")
        assert store.get("head") is None


def test_a_stream_goes_on_where_its_connection_broke(faulty, monkeypatch):
    _, server = faulty
    monkeypatch.setattr(bucket_module, "_FIRST_PAUSE_S", 0.01)
    bucket, content = Bucket.from_environment(BUCKET), os.urandom(5 * CHUNK_BYTES + 1)
    bucket.write("large", content)
    server.faults.append(Fault("cut", "GET", "large", count=2))
    assert b"".join(bucket.stream("large")) == content
    server.faults.append(Fault("cut", "GET", "large", count=1000))
    with pytest.raises(RegistryError, match=r"could not read s3://registry/large \(5 tries\)"):
        list(bucket.stream("large"))
    server.faults.clear()
    stream = bucket.stream("large")
    assert next(stream) == content[:CHUNK_BYTES]
    stream.close()
    with pytest.raises(MissingObjectError):
        list(bucket.stream("small"))


@pytest.mark.parametrize("kind", ["503", "reset", "wrong"])
def test_a_fault_that_stays_is_told(faulty, kind, monkeypatch):
    store, server = faulty
    monkeypatch.setattr(bucket_module, "_FIRST_PAUSE_S", 0.01)
    store.put("object", b"content")
    server.faults.append(Fault(kind, "GET", "object", count=1000))
    with pytest.raises(RegistryError, match=r"could not read s3://registry/.*/object \(5 tries\)"):
        store.get("object")


def test_what_will_never_work_is_not_tried_again(faulty, monkeypatch):
    _, server = faulty
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    before = server.num_requests
    with pytest.raises(RegistryError, match="Check the bucket and the credentials"):
        open_store(f"s3://{BUCKET}/x").put("a", b"")
    assert server.num_requests - before == 1
