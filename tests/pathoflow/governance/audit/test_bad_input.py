"""What a user or a registry may bring: names that do not exist, records that are none, servers that go away."""

from __future__ import annotations

import hashlib
import json

import pytest

from pathoflow.contract.lineage import LINEAGE_TAG
from pathoflow.contract.sealing import parse_manifest
from pathoflow.errors import InputError
from pathoflow.governance.audit import Places, Verdict, audit
from pathoflow.governance.audit.outputs import object_name
from tests.pathoflow.governance.audit.tampering import client, reference, stored
from tests.support.lineage.registered import MODEL


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("toy.deb", "Did you mean 'toy.dev'"),
        ("nothing like it", "Known: toy.dev"),
        ("toy.dev/7", "toy.dev has no version 7. Its versions: 1"),
        ("toy.dev@winner", "toy.dev has no alias 'winner'. Its aliases: champion"),
        ("toy.dev/one", "'one' in 'toy.dev/one' is no version"),
        ("", "There is no model ''"),
        ("../etc/passwd", "is no version"),
    ],
)
def test_what_does_not_exist_is_told_with_what_does(case, asked, words):
    with pytest.raises(InputError) as error:
        case.audit(asked)
    assert words in str(error.value)


@pytest.mark.parametrize("name", ["two words", "病理-r1 ü.dev", "it's", 'quo"te', "a@b", "100% _like_"])
def test_any_name_that_mlflow_takes(case, name):
    mlflow = client(case.workdir)
    mlflow.copy_model_version(f"models:/{MODEL}/1", name)
    mlflow.set_registered_model_alias(name, "champion", "1")
    report = case.audit(f"{name}@champion", with_registry=False)
    assert [link.detail for link in report.problems] == []
    assert (report.model, report.version, report.aliases) == (name, "1", ("champion",))


def test_a_version_registered_by_hand_is_unknown(case):
    mlflow = client(case.workdir)
    mlflow.create_registered_model("by hand")
    mlflow.create_model_version("by hand", str(case.books))
    report = case.audit("by hand")
    assert report.verdict is Verdict.UNKNOWN
    assert any("the version has no lineage" in link.detail for link in report.problems)


def forge(case, **changes) -> None:
    """Replaces the corpus in the remote by one with another manifest, addressed as if it had always been that."""
    remote, old = case.workdir.dvc / "remote", reference(case.workdir, "corpus")
    listing = json.loads((remote / object_name(str(old.dvc_md5))).read_bytes())
    manifest = parse_manifest(stored(case.workdir, "corpus", "manifest.json").read_bytes())
    forged = manifest.model_copy(update=changes)
    for entry in listing:
        if entry["relpath"] == "manifest.json":
            entry["md5"] = put(remote, forged.text.encode())
    md5 = put(remote, json.dumps(listing).encode(), ".dir")
    tags = client(case.workdir).get_model_version(MODEL, "1").tags
    text = tags[LINEAGE_TAG].replace(old.identity, forged.identity).replace(str(old.dvc_md5), md5)
    client(case.workdir).set_model_version_tag(MODEL, "1", LINEAGE_TAG, text)


def put(remote, content: bytes, suffix: str = "") -> str:
    md5 = hashlib.md5(content).hexdigest() + suffix
    path = remote / object_name(md5)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return md5


def test_a_forged_manifest_with_a_path_that_leads_out_is_refused(case):
    manifest = parse_manifest(stored(case.workdir, "corpus", "manifest.json").read_bytes())
    secret = manifest.files[0].model_copy(update={"path": "../../../../etc/passwd"})
    forge(case, files=(*manifest.files, secret))
    report = case.audit()
    assert report.verdict is Verdict.FAIL
    assert any("leads out of the output" in link.detail for link in report.problems)
    assert not any("passwd" in link.where for link in report.links)


def test_a_registry_that_is_down_is_unknown(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    report = audit("toy.dev", Places("http://127.0.0.1:9"))
    assert report.verdict is Verdict.UNKNOWN
    assert report.links[0].where == "http://127.0.0.1:9"


def test_a_store_that_goes_away_half_way_is_unknown(case, monkeypatch):
    """The server answers for the version, and no more when the runs are looked up."""
    places = case.places()
    whole = places.client.get_run
    calls = []

    def get_run(run_id):
        calls.append(run_id)
        if len(calls) > 4:
            raise OSError("Connection reset by peer")
        return whole(run_id)

    monkeypatch.setattr(places.client, "get_run", get_run)
    report = audit(MODEL, places)
    assert report.verdict is Verdict.UNKNOWN
    assert any("Connection reset" in link.detail for link in report.problems)
