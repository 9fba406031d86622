"""Stages in containers, restricted as on a cluster: through KFP's Docker runner, and stopped in the middle."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from kfp import local
from kfp.components import load_component_from_text

from components import catalogue
from pathoflow.contract.recipe import load_recipe
from pathoflow.contract.references import Reference, fetch
from pathoflow.contract.sealing import Manifest, read_manifest
from pathoflow.contract.workdir import WorkDir
from pathoflow.errors import Preempted
from pipelines.compile import compile_recipe, restrict
from tests.images.containers import WRITABLE, background, docker
from tests.images.services import Services, answers, services
from tests.support.s3_server import BUCKET
from tests.support.small import SMALL

pytestmark = pytest.mark.docker
DATA = ("teaching_atlas", "public_pairs", "textbook_pairs", "corpus", "reasoning_data")
TRAINING = ("base_model", "cpt")
# Two processes, which exchange gradients over gloo.
SETTINGS = [*(value for value in SMALL if not value.startswith("cpt.num_processes")), "cpt.num_processes=2"]
COMPILERS = "cc gcc g++ c++ clang clang++ ninja nvcc make cmake"


@dataclass
class Run:
    """A pipeline that ran in containers.

    Attributes:
        outputs: The directory of each stage's output, fetched from where the stage published it.
        printed: What the containers printed.
    """

    outputs: dict[str, Path]
    manifests: dict[str, Manifest]
    references: dict[str, Reference]
    printed: str


@pytest.fixture(scope="module")
def team(cpu_image) -> Iterator[Services]:
    with services(cpu_image) as started:
        yield started


@pytest.fixture(scope="module")
def finished(team, cpu_image, train_image, tmp_path_factory) -> Iterator[Run]:
    """The pipeline up to CPT. Every container begins with an empty /work, as pods do: all goes through the services."""
    root = tmp_path_factory.mktemp("pipeline")
    root.chmod(0o777)
    ir = with_images(
        restrict(compile_recipe(load_recipe("smoke", catalogue(), SETTINGS)), {*DATA, *TRAINING}),
        {stage: train_image if stage in TRAINING else cpu_image for stage in (*DATA, *TRAINING)},
    )
    environment = {**team.environment, "PATHOFLOW_WORKDIR": "/work", "OMP_NUM_THREADS": "1"}
    runner = local.DockerRunner(
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs=WRITABLE,
        network_mode="host",
        environment=environment,
    )
    local.init(runner, pipeline_root=str(root), raise_on_error=True)
    with redirect_stdout(io.StringIO()) as printed:
        try:
            load_component_from_text(ir)()
        except RuntimeError as error:
            pytest.fail(f"{error}\n{printed.getvalue()[-8000:]}")
    references = {
        reference.stage: reference
        for reference in map(Reference.model_validate_json, map(Path.read_bytes, root.rglob("output")))
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in team.environment.items():
            patch.setenv(name, value)
        workdir = WorkDir(tmp_path_factory.mktemp("fetched"))
        workdir.create()
        outputs = {stage: fetch(reference, workdir, team.url) for stage, reference in references.items()}
        manifests = {stage: read_manifest(path) for stage, path in outputs.items()}
        yield Run(outputs, manifests, references, printed.getvalue())


def with_images(ir: str, images: dict[str, str]) -> str:
    """The same pipeline with the images under test."""
    spec = yaml.safe_load(ir)
    executors = spec["deploymentSpec"]["executors"]
    for stage, image in images.items():
        executors[f"exec-{stage.replace('_', '-')}"]["container"]["image"] = image
    text: str = yaml.safe_dump(spec, sort_keys=False)
    return text


def test_each_stage_hands_on_its_output_through_the_object_store(finished, team) -> None:
    assert set(finished.references) == {*DATA, *TRAINING}
    for stage in DATA:
        assert finished.references[stage].dvc_remote == f"s3://{BUCKET}/dvc"
        assert (finished.references[stage].dvc_md5 or "").endswith(".dir")
    assert list((team.s3.folder / BUCKET / "dvc" / "files" / "md5").iterdir())
    assert finished.references["cpt"].model_uri
    assert list(finished.outputs["cpt"].rglob("*.safetensors"))


def test_cpt_was_asked_for_two_processes(finished) -> None:
    assert finished.manifests["cpt"].config["num_processes"] == 2


def test_the_outputs_name_the_commit_that_the_image_holds(finished, cpu_image) -> None:
    commit = docker(
        "image", "inspect", '--format={{index .Config.Labels "org.opencontainers.image.revision"}}', cpu_image
    )
    assert {manifest.code.commit for manifest in finished.manifests.values()} == {commit.strip()}


@pytest.mark.parametrize(
    "engine_settings", [(), ("deepspeed_stage=3", "offload=all")], ids=["torch", "ZeRO 3 with offload"]
)
def test_sigterm_reaches_a_training_and_it_exits_as_resumable(finished, train_image, tmp_path, engine_settings) -> None:
    """Two processes, without any network; every compiler that anything calls would be found out."""
    work, traps = tmp_path / "work", tmp_path / "traps"
    traps.mkdir()
    for name in COMPILERS.split():
        (traps / name).write_text(f"#!/bin/sh\necho {name} $@ >>/work/compiled\nexit 1\n")
        (traps / name).chmod(0o755)
    for stage in ("corpus", "base_model"):
        shutil.copytree(finished.outputs[stage], work / stage)
    work.chmod(0o777)
    command = ["python", "-m", "components.training.cpt", "--recipe=smoke", "--workdir=/work", "--no-versioned"]
    command += [f"--set={value}" for value in ("max_steps=100000", *engine_settings)]
    environment = {"PATH": "/traps:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    with background(
        train_image, *command, mounts={work: "/work", traps: "/traps:ro"}, environment=environment
    ) as container:
        container.wait_until(
            lambda: any('"loss"' in file.read_text() for file in work.rglob("series.jsonl")),
            "a first step",
            timeout_s=180,
        )
        processes = docker("top", container.name, "-eo", "pid,args").splitlines()
        assert sum("pathoflow.training.worker_bootstrap" in line and "agent" not in line for line in processes) == 2
        started = time.monotonic()
        docker("stop", "--time=60", container.name)
        stopped_s = time.monotonic() - started
        assert container.exit_code == Preempted.exit_code, container.logs()[-6000:]
        print(f"stopped after {stopped_s:.1f} s")
        assert stopped_s < 30
    assert list(work.rglob("complete.json")), "no checkpoint was left"
    assert not (work / "compiled").exists(), (work / "compiled").read_text()


def test_mlflow_serves_whom_it_knows_and_nobody_else(team) -> None:
    assert answers(f"{team.url}/api/2.0/mlflow/experiments/search?max_results=1") == 401
    lines = docker("top", team.server.name, "-eo", "pid,uid").splitlines()[1:]
    assert {line.split()[1] for line in lines} == {"10001"}
