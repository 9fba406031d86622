"""What each gate lets through, what it does not, and what it does not know."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pathoflow.errors import ConfigError, InputError, RefusedError, SignatureError
from pathoflow.governance.registry import promotion, verification
from pathoflow.governance.registry.aliases import aliases_of
from pathoflow.governance.registry.loading import fetch_verified
from pathoflow.governance.registry.policy import load_gates
from pathoflow.governance.signing import sign_statement


def gates(case, **staging):
    return case.gates.model_copy(update={"staging": case.gates.staging.model_copy(update=staging)})


def refused(case, words: str, asked: str = "toy/3") -> None:
    with pytest.raises(RefusedError, match=rf"(?s){words}"):
        case.promote(asked)


def test_thresholds_contamination_and_regression(case):
    bounds = load_gates("smoke").staging.thresholds["accuracy_{stage}"].model_copy(update={"at_least": 0.95})
    case.gates = gates(case, thresholds={"accuracy_{stage}": bounds, "accuracy_of_nobody": bounds})
    refused(case, r"FAIL threshold accuracy_rl: 0\.7, at least 0\.95.*UNKNOWN threshold accuracy_of_nobody")
    case.gates = gates(case, thresholds={}, evaluation_sets=("toys", "PathMMU"))
    refused(case, r"FAIL contamination: the corpus was not compared with PathMMU \(compared with: toys\)")
    case.gates = gates(case, max_chance_on_blank_images=None, evaluation_sets=())
    case.promote("toy/3")
    case.gates = load_gates("smoke")
    refused(
        case, r"FAIL no regression: -0\.1000 \[-0\.1[0-9]+, -0\.0[0-9]+\] against toy.staging/1 on 100 items", "toy/1"
    )
    refusal = case.registry().log.entries()[-1]
    assert refusal.action == "refuse"
    [figures] = [gate["figures"] for gate in refusal.details["gates"] if gate["gate"] == "no regression"]
    assert figures["num_items"] == 100
    assert figures["low"] < -0.1 < figures["high"]


def test_a_version_registered_by_hand_is_unknown(case):
    client = case.registry().client
    first = client.get_model_version("toy.dev", "1")
    client.create_model_version("toy.dev", first.source, first.run_id)
    refused(case, r"UNKNOWN origin: the log knows no toy\.dev/4.*UNKNOWN lineage", "toy/4")
    client.create_model_version("toy.dev", first.source, first.run_id, tags=first.tags)
    refused(case, r"UNKNOWN origin: the log knows no toy\.dev/5", "toy/5")
    assert aliases_of(client, "toy.staging") == (None, None)


def test_edited_tags_are_found(case):
    case.registry().client.set_model_version_tag(
        "toy.dev",
        "1",
        "pathoflow.identity",
        case.registry().client.get_model_version("toy.dev", "3").tags["pathoflow.identity"],
    )
    refused(case, r"FAIL origin: the log has sha256:.* for toy\.dev/1, its tags say sha256:", "toy/1")


def test_signature_and_card_that_are_gone_or_changed(case):
    store = case.registry().objects
    identity = case.registry().client.get_model_version("toy.dev", "3").tags["pathoflow.identity"]
    [signature] = store.list(f"signatures/{identity.removeprefix('sha256:')}/")
    content = store.get(signature)
    store.put(signature, content[:200] + bytes([content[200] ^ 1]) + content[201:])
    refused(case, rf"FAIL signature: The signature {signature}")
    store.delete(signature)
    refused(case, "UNKNOWN signature: Nobody signed")
    store.put(signature, content)
    for card in store.list("cards/"):
        store.put(card, store.get(card) + b"!")
    refused(case, "FAIL model card: .* was changed since the model was registered")
    case.gates = gates(case, throwaway_keys=False)
    refused(case, "FAIL signature: made with the throw-away key throwaway")


def test_the_card_tells_of_the_model(case):
    from huggingface_hub import ModelCard

    [card] = [case.registry().objects.get(key).decode() for key in case.registry().objects.list("cards/")][:1]
    parsed = ModelCard(card, ignore_metadata_errors=False)
    assert parsed.data.model_name == "toy"
    assert "research-only" in parsed.data.tags
    assert parsed.data.eval_results[0].metric_name == "accuracy_rl"
    for words in ("Not a medical device", "| corpus | `sha256:", "accuracy_rl"):
        assert words in parsed.text


def test_a_recent_audit_is_believed_and_nothing_else_is(case, monkeypatch):
    audits = []
    real = verification.audit
    monkeypatch.setattr(verification, "audit", lambda *args, **named: audits.append(args[0]) or real(*args, **named))
    registry = case.registry()

    def verified(version: str = "toy.dev/3", max_age_s: float = 3600):
        before = len(audits)
        found = verification.verify_lineage(registry, verification.find_version(registry, version), max_age_s)
        return found.verdict.value, len(audits) - before

    assert verified() == ("PASS", 1)
    assert verified() == ("PASS", 0)
    assert verified(max_age_s=0) == ("PASS", 1)
    # A copy in the next stage has the same bytes and records.
    registry.client.copy_model_version("models:/toy.dev/3", "toy.staging")
    assert verified("toy.staging/1") == ("PASS", 0)
    # Another clock: too old, and from the future.
    [key] = registry.objects.list("verifications/")
    said = json.loads(_payload(registry.objects.get(key)))["predicate"]
    for shift_s in (-7200, 7200):
        at = (datetime.now(UTC) + timedelta(seconds=shift_s)).isoformat()
        registry.objects.put(key, sign_statement(verification.VERIFICATION, {}, said | {"at": at}, registry.key))
        assert verified() == ("PASS", 1)
    # A record that nobody trusted signed, and one over a version that was changed since.
    registry.objects.put(key, registry.objects.get(key)[:-10])
    assert verified() == ("PASS", 1)
    registry.client.set_model_version_tag("toy.dev", "3", "metric.accuracy_rl", "0.99")
    assert verified() == ("FAIL", 1)


def _payload(envelope: bytes) -> bytes:
    import base64

    return base64.b64decode(json.loads(envelope)["payload"])


def test_bytes_are_fetched_whole_or_not_at_all(case, tmp_path):
    label = fetch_verified(case.registry(), "toy.dev@champion", tmp_path / "model")
    assert label == "toy.dev/3"
    assert (tmp_path / "model" / "model" / "weights.bin").stat().st_size == 256
    with pytest.raises(InputError, match="exists"):
        fetch_verified(case.registry(), "toy.dev/1", tmp_path / "model")
    version = verification.find_version(case.registry(), "toy.dev/1")
    output = verification.model_of(case.registry(), version)
    path = Path(output.files["model/weights.bin"].location)
    # The copy, not the place that MLflow's records name, where the original was made.
    assert path.is_relative_to(case.workdir.root)
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    for what in (
        lambda: verification.verified_manifest(case.registry(), version, with_bytes=True),
        lambda: fetch_verified(case.registry(), "toy.dev/1", tmp_path / "spoilt"),
    ):
        with pytest.raises(SignatureError, match=r"weights\.bin was changed"):
            what()
    path.unlink()
    with pytest.raises(SignatureError, match=r"weights\.bin is missing"):
        fetch_verified(case.registry(), "toy.dev/1", tmp_path / "gone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "work"]


def test_odd_names_are_names(case):
    client = case.registry().client
    for name in ("two words", "größe 病理", "it's", 'a "quote"'):
        client.create_registered_model(f"{name}.dev")
        with pytest.raises(InputError, match="has no version 1"):
            case.promote(f"{name}/1")
        first = client.get_model_version("toy.dev", "1")
        client.create_model_version(f"{name}.dev", first.source, first.run_id)
        refused(case, "UNKNOWN origin", f"{name}/1")
        assert promotion.repair_all(case.registry(), name) == []
    with pytest.raises(InputError, match="There is no model"):
        case.promote("a/b/1")


def test_gates_that_will_not_do(tmp_path):
    for text, words in (
        ("staging: {}", "prod: Field required"),
        ("staging: {}\nprod: {num_approval: 1}", "prod.num_approval: Extra inputs"),
        ("staging: {thresholds: {a: {}}}\nprod: {}", "give at_least or at_most"),
        ("staging: {no_regression: {margin: 2}}\nprod: {}", "less than or equal to 1"),
        ("][", "is not YAML"),
    ):
        (tmp_path / "gates.yaml").write_text(text)
        with pytest.raises(ConfigError, match=words):
            load_gates(str(tmp_path / "gates.yaml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_gates(str(tmp_path / "nowhere.yaml"))
    for recipe in ("smoke", "paper_3b", "paper_7b"):
        assert load_gates(recipe).prod.num_approvals == 1
    assert not load_gates("paper_7b").prod.throwaway_keys


def test_an_approvers_key_moves_nothing(case):
    registry = replace(case.registry(case.approver))
    with pytest.raises(SignatureError, match="approvers move nothing"):
        promotion.promote(registry, "toy/3", "staging", case.gates)
