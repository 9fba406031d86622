"""The decision log: whatever is done to it shows."""

from __future__ import annotations

import base64
import json
import multiprocessing

import pytest

from pathoflow.contract.config import canonical_json
from pathoflow.errors import RegistryError, SignatureError
from pathoflow.governance.registry.decisions import DecisionLog
from pathoflow.governance.registry.entries import Anchor
from pathoflow.governance.signing import PublicKey, TrustedKeys, make_key
from pathoflow.stores.objects import LocalStore, open_store
from tests.support.s3_server import BUCKET, s3_server

FORK = multiprocessing.get_context("fork")


class Notes:
    """Anchors in memory."""

    def __init__(self) -> None:
        self.last: Anchor | None = None

    def read(self, models):
        if self.last:
            return [self.last]
        return [Anchor(model, 0, "", f"note of {model}", gone=True) for model in sorted(models)]

    def write(self, model, seq, digest):
        self.last = Anchor(model, seq, digest, "note")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    root = tmp_path_factory.mktemp("keys")
    made = {"registrar": make_key(root / "registrar.key", "ec"), "approver": make_key(root / "approver.key", "ed25519")}
    made["stranger"] = make_key(root / "stranger.key", "ec")
    TrustedKeys.add(root / "trusted", "registrar", made["registrar"].public)
    TrustedKeys.add(root / "trusted", "approver", PublicKey("approver", "ed25519", made["approver"].public.pem))
    return made | {"trusted": TrustedKeys.load(root / "trusted")}


@pytest.fixture
def log(tmp_path, keys) -> DecisionLog:
    log = DecisionLog(LocalStore(tmp_path / "registry"), keys["trusted"], Notes())
    for number in range(5):
        log.append(keys["registrar"], "builder", "register", "m", {"n": number, "after": {"m.dev": {"v": number}}})
    return log


def key_of(number: int) -> str:
    return f"log/{number:012d}.json"


def problems(log: DecisionLog) -> str:
    return "\n".join(log.verify().problems)


def test_entries_are_chained_and_signed_and_the_head_knows_where_things_stand(log, keys):
    assert problems(log) == ""
    entries = log.entries()
    assert [entry.details["n"] for entry in entries] == list(range(5))
    assert [entry.previous for entry in entries[1:]] == [entry.digest for entry in entries[:-1]]
    assert (log.head().seq, log.head().states) == (5, {"m.dev": {"v": 4}})
    assert [entry.seq for entry in log.entries(since=3)] == [4, 5]


def test_an_empty_log_is_empty_and_one_that_was_emptied_is_not(log, tmp_path, keys):
    new = DecisionLog(LocalStore(tmp_path / "new"), keys["trusted"], Notes())
    assert (new.entries(), problems(new)) == ([], "")
    for key in log.objects.list(""):
        log.objects.delete(key)
    assert "cut short" in problems(log)
    with pytest.raises(RegistryError, match="cut short or forked"):
        log.append(keys["registrar"], "builder", "register", "m", {})


def test_no_byte_of_any_object_can_change(log):
    for key in log.objects.list(""):
        content = log.objects.get(key)
        for place in range(0, len(content), 37):
            log.objects.put(key, content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert key in problems(log), place
        log.objects.put(key, content)
    assert problems(log) == ""


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_zero_byte_entry_and_a_missing_one_are_named(log, keys, number):
    log.objects.put(key_of(number), b"")
    assert f"{key_of(number)} in {log.objects.url} is empty" in problems(log)
    with pytest.raises(RegistryError, match="was changed"):
        log.entries()
    log.objects.delete(key_of(number))
    assert ("is missing" in problems(log)) or ("cut short" in problems(log))


def test_a_cut_log_shows_by_its_head_and_even_with_an_older_head_by_the_note_elsewhere(log, keys):
    before = log.objects.get("log-head.json")
    log.append(keys["registrar"], "builder", "register", "m", {})
    log.objects.delete(key_of(6))
    assert "cut short" in problems(log)
    with pytest.raises(RegistryError, match="is not the entry that its head names"):
        log.append(keys["registrar"], "builder", "register", "m", {})
    log.objects.put("log-head.json", before)
    found = log.verify().problems
    assert len(found) == 1
    assert "the note names entry 6: it was cut short" in found[0]
    with pytest.raises(RegistryError, match="cut short or forked"):
        log.append(keys["registrar"], "builder", "register", "m", {})


def test_entries_in_another_order_show(log):
    second, third = log.objects.get(key_of(2)), log.objects.get(key_of(3))
    log.objects.put(key_of(2), third)
    log.objects.put(key_of(3), second)
    assert "is entry 3: entries were put in another order" in problems(log)
    assert "is entry 2: entries were put in another order" in problems(log)


def test_an_edit_even_by_the_holder_of_a_key_breaks_the_chain(log, keys, tmp_path):
    """A registrar writes history anew: the later entries, the head and the note elsewhere say otherwise."""
    other = DecisionLog(LocalStore(tmp_path / "other"), keys["trusted"], Notes())
    for number in range(3):
        other.append(keys["registrar"], "builder", "register", "m", {"n": f"other {number}"})
    log.objects.put(key_of(3), other.objects.get(key_of(3)))
    assert "follows another entry 2" in problems(log)
    assert "follows another entry 3" in problems(log)


def test_a_fork_shows_by_the_note_elsewhere(log, keys, tmp_path):
    other = DecisionLog(LocalStore(tmp_path / "other"), keys["trusted"], Notes())
    for number in range(5):
        other.append(keys["registrar"], "builder", "register", "m", {"n": f"other {number}"})
    for key in other.objects.list(""):
        log.objects.put(key, other.objects.get(key))
    [problem] = log.verify().problems
    assert "names another entry 5" in problem
    assert "forked" in problem


def test_strangers_and_approvers_cannot_decide(log, keys):
    roles = ((keys["approver"].public,), ())
    with_stranger = DecisionLog(
        log.objects, TrustedKeys(log._trusted.folder, (keys["stranger"].public,), ()), log._anchors
    )
    with pytest.raises(RegistryError, match="not trusted"):
        with_stranger.append(keys["stranger"], "stranger", "promote", "m", {})
    stranger = DecisionLog(LocalStore(log.objects.root.parent / "s"), with_stranger._trusted, Notes())
    stranger.append(keys["stranger"], "stranger", "promote", "m", {})
    log.objects.put(key_of(6), stranger.objects.get(key_of(1)))
    assert "key that is not trusted" in problems(log)
    log.objects.delete(key_of(6))
    log.append(keys["approver"], "approver", "approve", "m", {})
    assert problems(log) == ""
    with pytest.raises(SignatureError, match="approver is an approver and may not promote"):
        log.append(keys["approver"], "approver", "promote", "m", {})
    # Nor by writing to the store herself, with an entry or a head of her own.
    hers = DecisionLog(LocalStore(log.objects.root.parent / "h"), TrustedKeys(log._trusted.folder, *roles), Notes())
    hers.append(keys["approver"], "approver", "promote", "m", {"after": {"m.prod": {"champion": 1, "line": [1]}}})
    log.objects.put(key_of(7), hers.objects.get(key_of(1)))
    assert "is an approver and may not promote" in problems(log) or "another order" in problems(log)
    log.objects.put("log-head.json", hers.objects.get("log-head.json"))
    with pytest.raises(RegistryError, match="head of the decision log was changed"):
        log.head()


def test_other_objects_in_the_log_show(log):
    for name in ("log/7.json", "log/000000000002b.json", "log/x/000000000001.json", "log/000000000000.json"):
        log.objects.put(name, b"{}")
        assert name in problems(log)
        log.objects.delete(name)


def test_a_writer_that_was_killed_before_the_head_is_caught_up_with(log, keys):
    before = log.objects.get("log-head.json")
    log.append(keys["registrar"], "builder", "register", "m", {"after": {"m.dev": {"v": 9}}})
    log.objects.put("log-head.json", before)
    log._anchors.write("m", 5, log.entries()[4].digest)
    assert log.head().states == {"m.dev": {"v": 9}}
    assert "writer was killed" in log.verify().notes[0]
    log.append(keys["registrar"], "builder", "register", "m", {})
    assert (log.head().seq, problems(log), log.verify().notes) == (7, "", [])


@pytest.mark.parametrize("what", ["head", "note"])
def test_a_head_or_a_note_that_is_gone_shows_and_is_written_again_from_a_sound_log_only(log, keys, what):
    if what == "head":
        log.objects.delete("log-head.json")
    else:
        log._anchors.last = None
    report = log.verify()
    assert report.problems == report.gone == report.mendable
    assert "is missing: it was removed" in report.problems[0]
    with pytest.raises(RegistryError, match=r"is missing: it was removed.*registry --repair"):
        log.append(keys["registrar"], "builder", "register", "m", {})
    third = log.objects.get(key_of(3))
    log.objects.put(key_of(3), b"")
    with pytest.raises(RegistryError, match="is empty"):
        log.mend(keys["registrar"])
    log.objects.put(key_of(3), third)
    assert log.mend(keys["registrar"]) == report.problems
    assert log.mend(keys["registrar"]) == []
    assert (problems(log), log.head().states) == ("", {"m.dev": {"v": 4}})
    log.append(keys["registrar"], "builder", "register", "m", {})


def test_an_entry_that_is_added_while_the_log_is_read_is_no_sign_of_a_change(log, keys, monkeypatch):
    real = log._anchors.read

    def read_late(models):
        monkeypatch.setattr(log._anchors, "read", real)
        log.append(keys["registrar"], "another", "register", "m", {})
        return real(models)

    monkeypatch.setattr(log._anchors, "read", read_late)
    assert log.sound_head("m").seq == 6
    monkeypatch.setattr(log._anchors, "read", read_late)
    report = log.verify()
    assert (len(report.entries), report.problems) == (7, [])


def test_a_clock_that_is_wrong_is_noted(log, keys, monkeypatch):
    from pathoflow.governance.registry import decisions

    class Early(decisions.datetime):
        @classmethod
        def now(cls, zone=None):
            return cls(2020, 1, 1, tzinfo=zone)

    monkeypatch.setattr(decisions, "datetime", Early)
    log.append(keys["registrar"], "builder", "register", "m", {})
    assert "a clock is wrong" in log.verify().notes[0]
    assert problems(log) == ""


def test_an_unsigned_copy_with_the_right_chain_is_no_entry(log):
    document = json.loads(log.objects.get(key_of(5)))
    payload = json.loads(base64.b64decode(document["payload"]))
    payload["predicate"]["actor"] = "somebody else"
    document["payload"] = base64.b64encode(canonical_json(payload)).decode()
    log.objects.put(key_of(5), canonical_json(document))
    assert "it is not what registrar signed" in problems(log)


def _write(location, keys, num_entries) -> None:
    log = DecisionLog(open_store(location), keys["trusted"], Notes())
    for number in range(num_entries):
        log.append(keys["registrar"], "builder", "register", "m", {"n": number})


@pytest.mark.parametrize("kind", ["folder", "s3", "conditional s3"])
def test_many_writers_make_one_chain(tmp_path, keys, kind, monkeypatch):
    def written(location: str) -> None:
        workers = [FORK.Process(target=_write, args=(location, keys, 3)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        log = DecisionLog(open_store(location), keys["trusted"], Notes())
        assert (len(log.entries()), problems(log)) == (12, "")

    if kind == "folder":
        written(str(tmp_path / "registry"))
        return
    with s3_server(tmp_path / "s3", conditional=kind == "conditional s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        written(f"s3://{BUCKET}/registry")
