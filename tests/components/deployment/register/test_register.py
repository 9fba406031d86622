"""The registry's version: one per lineage, with tags that lead back to every output it stands on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from mlflow import MlflowClient
from pydantic import ValidationError

from components.deployment.register.config import RegisterConfig
from pathoflow.contract.config import OutputKind, StageConfig
from pathoflow.contract.publication import log_output
from pathoflow.contract.sealing import Code, Counts, Manifest, read_manifest, seal, verify
from pathoflow.contract.stage import execute
from pathoflow.errors import InputError, SignatureError, StageError
from pathoflow.governance.audit.versions import model_stage
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.aliases import aliases_of
from pathoflow.governance.registry.verification import find_version, verified_manifest
from pathoflow.governance.signing import TrustedKeys, make_key
from pathoflow.stores.tracking import Tracker, download_model

MD5 = "0123456789abcdef0123456789abcdef.dir"


class RlConfig(StageConfig):
    stage: ClassVar[str] = "rl"
    output: ClassVar[OutputKind] = "model"


class PathoclipConfig(StageConfig):
    stage: ClassVar[str] = "pathoclip"
    output: ClassVar[OutputKind] = "model"


class VqaBenchmarksConfig(StageConfig):
    stage: ClassVar[str] = "vqa_benchmarks"


INPUTS = {
    "rl": {"sft": "sha256:sft", "diagnosis_mcqs": "sha256:mcqs"},
    "pathoclip": {"corpus": "sha256:corpus"},
    "vqa_benchmarks": {"cpt": "sha256:cpt", "diagnosis_mcqs": "sha256:mcqs"},
}


@pytest.fixture
def make(workdir):
    """Seals an output as its stage would have, with the given content and figures."""

    def make_output(config: StageConfig, content: str = "first", **metrics: float) -> Manifest:
        folder = workdir.output(config.stage)
        folder.mkdir(exist_ok=True)
        (folder / "content.txt").write_text(content)
        return seal(
            folder,
            config=config,
            code=Code(commit="abc", dirty=True, digest="sha256:code"),
            image_digest=None,
            inputs=INPUTS[config.stage],
            external_files=(),
            counts=Counts(num_in=1, num_out=1, quarantined={}),
            metrics=metrics,
            notes={},
        )

    return make_output


@pytest.fixture
def log_model(workdir, services):
    """Logs the model in the work directory to MLflow, with its inputs, as the `rl` stage does."""

    def log() -> None:
        manifest = read_manifest(workdir.output("rl"))
        run = Tracker(services.tracking_uri, services.experiment).stage_run(
            "rl", "here/rl", run_id=None, parent_run_id=None
        )
        run.log_inputs({"diagnosis_mcqs": (MD5, "sha256:mcqs"), "sft": ("sha256:sft", "sha256:sft")})
        log_output(run, manifest, workdir.output("rl"), log_model=True)

    return log


@pytest.fixture
def register(workdir, services, make, log_model):
    """Registers what lies in the work directory; begins with a finished run."""
    make(RlConfig())
    make(PathoclipConfig(), recall_at_1=0.25)
    make(VqaBenchmarksConfig(), accuracy_rl=0.8125)
    log_model()

    def run(**values) -> Manifest:
        inputs: dict[str, Path] = {name: workdir.output(name) for name in RegisterConfig.inputs}
        execute(RegisterConfig(**{"signing": "throwaway"} | values), inputs, workdir, services, force=True)
        return verify(workdir.output("register"))

    return run


@pytest.fixture
def client(workdir) -> MlflowClient:
    return MlflowClient(workdir.tracking_uri)


def test_the_version_points_at_the_models_bytes(workdir, register, client, tmp_path):
    register()
    [version] = client.search_model_versions("name = 'patho-r1.dev'")
    assert (int(version.version), version.status) == (1, "READY")
    found = download_model(version.source, tmp_path / "download", workdir.tracking_uri)
    assert verify(found) == verify(workdir.output("rl"))


class OtherBranchConfig(RlConfig):
    stage: ClassVar[str] = "rl_other"


def test_the_configuration_names_the_stage_whose_model_is_registered(workdir, register, make, client, monkeypatch):
    with pytest.raises(ValidationError, match="no model of this stage is handed in; choose from: rl"):
        RegisterConfig(model_stage="vqa_benchmarks")
    monkeypatch.setattr(RegisterConfig, "inputs", (*RegisterConfig.inputs, "rl_other"))
    monkeypatch.setitem(INPUTS, "rl_other", INPUTS["rl"])
    other = make(OtherBranchConfig(), "other")
    run = Tracker(workdir.tracking_uri, "test").stage_run("rl_other", "here/rl_other", run_id=None, parent_run_id=None)
    log_output(run, other, workdir.output("rl_other"), log_model=True)
    register(model_stage="rl_other")
    [version] = client.search_model_versions("name = 'patho-r1.dev'")
    assert version.tags["pathoflow.identity"] == version.tags["pathoflow.identity.rl_other"] == other.identity
    assert model_stage(version.tags) == "rl_other"
    [entry] = Registry.of_workdir(workdir.root).log.entries()
    assert entry.details["evidence"].keys() == {"rl_other", "vqa_benchmarks", "pathoclip"}
    assert "`accuracy_rl_other` is this model's" in version.description


def test_a_missing_model_is_told_by_its_stage(workdir, register, services):
    inputs = {name: workdir.output(name) for name in ("vqa_benchmarks", "pathoclip")}
    with pytest.raises(InputError, match="sealed output of rl"):
        execute(RegisterConfig(signing="throwaway"), inputs, workdir, services)


def test_the_tags_lead_back_to_every_output_and_figure(workdir, register, client, make):
    register()
    [version] = client.search_model_versions("name = 'patho-r1.dev'")
    model = read_manifest(workdir.output("rl"))
    expected = {
        "pathoflow.identity": model.identity,
        "pathoflow.config_digest": model.config_digest,
        "pathoflow.code_commit": "abc",
        "pathoflow.code_dirty": "true",
        "pathoflow.image_digest": "none",
        "pathoflow.kfp_run_id": "local",
        "pathoflow.parent_version": "none",
        "pathoflow.dvc.diagnosis_mcqs": MD5,
        "metric.accuracy_rl": "0.8125",
        "metric.pathoclip_recall_at_1": "0.25",
    }
    expected |= {f"pathoflow.identity.{name}": f"sha256:{name}" for name in ("sft", "cpt", "corpus")}
    expected["pathoflow.identity.diagnosis_mcqs"] = "sha256:mcqs"
    for stage in ("rl", "pathoclip", "vqa_benchmarks"):
        expected[f"pathoflow.identity.{stage}"] = read_manifest(workdir.output(stage)).identity
    assert json.loads(version.tags.pop("pathoflow.lineage")) == []
    assert version.tags == expected


def test_the_output_says_what_was_registered(workdir, register):
    manifest = register()
    assert manifest.notes == {"model_version": "patho-r1.dev version 1"}
    assert manifest.metrics == {"model_version": 1, "accuracy_rl": 0.8125}
    registration = json.loads((workdir.output("register") / "registration.json").read_text())
    assert (registration["name"], registration["version"]) == ("patho-r1.dev", 1)
    assert registration["tags"]["pathoflow.identity"] == read_manifest(workdir.output("rl")).identity


def test_the_same_lineage_is_registered_once(register, client, log_model):
    first = register()
    log_model()
    assert register() == first
    assert len(client.search_model_versions("name = 'patho-r1.dev'")) == 1


def test_new_scores_and_a_new_pathoclip_each_make_a_version_that_names_its_parent(register, client, make):
    register()
    make(VqaBenchmarksConfig(), accuracy_rl=0.9)
    register()
    make(PathoclipConfig(), "second", recall_at_1=0.5)
    register()
    versions = {int(version.version): version for version in client.search_model_versions("name = 'patho-r1.dev'")}
    assert {number: version.tags["pathoflow.parent_version"] for number, version in versions.items()} == {
        1: "none",
        2: "patho-r1.dev/1",
        3: "patho-r1.dev/2",
    }
    assert versions[2].tags["metric.accuracy_rl"] == "0.9"


def test_names_are_separate(register, client):
    register()
    assert register(model_name="other").notes == {"model_version": "other.dev version 1"}
    for name in ("patho r1", "patho.dev", "", "-r1", "a' or 'b"):
        with pytest.raises(ValidationError, match="model_name"):
            RegisterConfig(model_name=name)


def test_a_model_that_this_server_does_not_know_is_told(workdir, register, client, make):
    unknown = make(RlConfig(), "never logged")
    with pytest.raises(StageError) as error:
        register()
    for words in (unknown.identity, workdir.tracking_uri, "Run the rl stage again"):
        assert words in str(error.value)
    assert client.search_registered_models() == []


def test_the_version_is_signed_logged_and_the_champion_of_dev(workdir, register, client, make):
    register()
    registry = Registry.of_workdir(workdir.root)
    version = find_version(registry, "patho-r1.dev@champion")
    assert version.number == "1"
    assert verified_manifest(registry, version, with_bytes=True) == read_manifest(workdir.output("rl"))
    make(VqaBenchmarksConfig(), accuracy_rl=0.9)
    register()
    assert aliases_of(client, "patho-r1.dev") == (2, 1)
    entries = registry.log.entries()
    assert [entry.details["version"] for entry in entries] == ["patho-r1.dev/1", "patho-r1.dev/2"]
    assert entries[1].details["evidence"]["vqa_benchmarks"] == read_manifest(workdir.output("vqa_benchmarks")).identity
    assert registry.log.verify().problems == []
    # Done again, nothing is signed or logged twice.
    register()
    assert len(registry.log.entries()) == 2
    assert client.get_model_version("patho-r1.dev", "2").description.startswith("# patho-r1")


def test_without_a_key_nothing_is_registered(workdir, register, client, monkeypatch, tmp_path):
    for name in ("PATHOFLOW_SIGNING_KEY", "PATHOFLOW_TRUSTED_KEYS", "PATHOFLOW_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SignatureError, match="No key is given to sign with"):
        register(signing="key")
    monkeypatch.setenv("PATHOFLOW_SIGNING_KEY", str(tmp_path / "no.key"))
    with pytest.raises(SignatureError, match="does not exist"):
        register(signing="key")
    assert client.search_registered_models() == []
    key = make_key(tmp_path / "ours.key", "ec")
    TrustedKeys.add(tmp_path / "trusted", "registrar", key.public)
    monkeypatch.setenv("PATHOFLOW_SIGNING_KEY", str(key.path))
    monkeypatch.setenv("PATHOFLOW_TRUSTED_KEYS", str(tmp_path / "trusted"))
    register(signing="key")
    assert Registry.from_environment().log.entries()[0].signer.name == "ours"
