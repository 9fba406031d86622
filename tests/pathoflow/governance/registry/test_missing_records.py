"""Each record on which a version stands is taken away in turn: its audit says UNKNOWN, and it is not promoted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pathoflow.cli import app
from pathoflow.errors import PathoflowError
from pathoflow.governance.audit import Verdict, audit
from pathoflow.governance.registry import promotion
from pathoflow.governance.registry.access import ANCHOR_TAG
from pathoflow.governance.registry.aliases import aliases_of
from pathoflow.governance.registry.cards import read as read_card
from pathoflow.governance.registry.trust import check_trust
from pathoflow.governance.registry.verification import find_version
from tests.pathoflow.governance.audit.tampering import flip, listing, logged_manifest, reference, stored

VERSION, DEV = "toy.dev/3", "toy.dev"


def found(pattern: str) -> Callable:
    """The registry's object of that name; of several, the one that was written last."""

    def find(case) -> Path:
        return max((case.workdir.root / "registry").glob(pattern), key=lambda path: path.stat().st_mtime_ns)

    return find


def signature(case) -> Path:
    identity = reference(case.workdir, "rl").identity.removeprefix("sha256:")
    [path] = (case.workdir.root / "registry" / "signatures" / identity).iterdir()
    return path


FILES = {
    "a weight shard": lambda case: stored(case.workdir, "rl", "model/weights.bin"),
    "the model's manifest": lambda case: stored(case.workdir, "rl", "manifest.json"),
    "the model's manifest in MLflow": lambda case: logged_manifest(case.workdir, "rl"),
    "a data set's manifest": lambda case: stored(case.workdir, "corpus", "manifest.json"),
    "a data set's manifest in MLflow": lambda case: logged_manifest(case.workdir, "textbook_pairs"),
    "a Parquet shard": lambda case: stored(case.workdir, "corpus", "train/train-00000.parquet"),
    "DVC's listing": lambda case: listing(case.workdir, "corpus"),
    "the answers": lambda case: stored(case.workdir, "vqa_benchmarks", "predictions/rl-00000.parquet"),
    "the signature": signature,
    "the card": found("cards/*"),
    "the registration's entry": found("log/000000000003.json"),
    "an earlier entry": found("log/000000000001.json"),
    "the log's head": found("log-head.json"),
}


def audited(case) -> Verdict:
    return audit(VERSION, case.registry().places, check_trust=partial(check_trust, case.registry)).verdict


def refused(case, what: str = "") -> None:
    with pytest.raises(PathoflowError):
        pytest.fail(f"promoted without {what}: {case.promote('toy/3')}")
    assert aliases_of(case.registry().client, "toy.staging") == (None, None)


def test_each_file_in_turn(case):
    assert audited(case) is Verdict.PASS
    for what, find in FILES.items():
        path = find(case)
        kept = path.rename(case.workdir.root.parent / "kept")
        assert audited(case) is Verdict.UNKNOWN, what
        refused(case, what)
        kept.rename(path)
    assert audited(case) is Verdict.PASS
    case.promote("toy/3")


def test_each_record_in_mlflow_in_turn(case):
    client = case.registry().client
    tags = client.get_model_version(DEV, "3").tags
    runs = {stage: str(reference(case.workdir, stage).run_id) for stage in ("rl", "corpus", "textbook_pairs")}
    taken: dict[str, tuple[Callable, Callable]] = {
        f"tag {name}": (
            partial(client.delete_model_version_tag, DEV, "3", name),
            partial(client.set_model_version_tag, DEV, "3", name, value),
        )
        for name, value in tags.items()
        if name.startswith("pathoflow.")
    }
    taken |= {
        f"run {name}": (partial(client.delete_run, run), partial(client.restore_run, run)) for name, run in runs.items()
    }
    for what, (take, put_back) in taken.items():
        take()
        assert audited(case) is Verdict.UNKNOWN, what
        refused(case, what)
        put_back()
    anchor = client.get_registered_model(DEV).tags[ANCHOR_TAG]
    client.delete_registered_model_tag(DEV, ANCHOR_TAG)
    assert audited(case) is Verdict.UNKNOWN
    refused(case)
    [told] = promotion.repair_all(case.registry(), "toy")
    assert f"tag {ANCHOR_TAG} of toy.dev in MLflow" in told
    assert int(client.get_registered_model(DEV).tags[ANCHOR_TAG].partition(":")[0]) > int(anchor.partition(":")[0])
    assert audited(case) is Verdict.PASS
    case.promote("toy/3")


def test_a_head_that_is_gone_is_written_again(case):
    (case.workdir.root / "registry" / "log-head.json").unlink()
    refused(case)
    done = CliRunner().invoke(app, ["registry", "--repair", "--workdir", str(case.workdir.root)])
    assert done.exit_code == 0, done.exception
    assert "log-head.json" in done.stderr
    assert case.actions()[-1] == "repair"
    case.promote("toy/3")


def test_no_alias_is_put_back_to_bytes_that_were_changed(case):
    case.promote("toy/2")
    case.promote("toy/3")
    client = case.registry().client
    client.set_registered_model_alias("toy.staging", "champion", "1")
    weights = stored(case.workdir, "rl", "model/weights.bin")
    flip(weights)
    [told] = promotion.repair_all(case.registry(), "toy")
    assert "Nothing is served, since the champion will not do" in told
    assert "weights.bin was changed" in told
    assert aliases_of(client, "toy.staging") == (None, 1)
    promotion.roll_back(case.registry(), "toy", "staging", "the one before is sound")
    assert aliases_of(client, "toy.staging") == (1, None)


def test_a_card_can_be_read_and_one_that_was_changed_cannot(case):
    registry = case.registry()
    version = find_version(registry, "toy.dev@champion")
    assert "# toy" in read_card(registry, version)
    case.promote("toy/3")
    assert read_card(registry, find_version(registry, "toy.staging@champion")) == read_card(registry, version)
    card = found("cards/*")(case)
    flip(card)
    with pytest.raises(PathoflowError, match="was changed since the model was registered"):
        read_card(registry, version)
