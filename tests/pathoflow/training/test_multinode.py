"""Training over two nodes, for real: two processes stand for the pods that a TrainJob would start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pathoflow.cluster.launch_request import LaunchRequest
from pathoflow.cluster.trainjob_spec import ATTEMPT, NODES, REQUEST, RUN_ID, TrainJobRequest, failure_file, manifest
from pathoflow.contract.output import StageOutput
from pathoflow.errors import ClusterError, ConfigError, Preempted, StageError, error_of
from pathoflow.training import multinode, node
from pathoflow.training.checkpoints import MARKER, PREFIX
from pathoflow.training.job import Job
from pathoflow.training.launch import launch_workers
from tests.support.kube import Trainer, api, kubeconfig, namespace, trainer_crds, wait_until
from tests.support.s3_server import free_port
from tests.support.toy_training.attempt import ROOT, VALUES, Attempt, outcome
from tests.support.toy_training.config import ToyTrainingConfig

__all__ = ["api", "kubeconfig", "namespace", "trainer_crds"]

CONFIG = ToyTrainingConfig(**VALUES)
REQUESTED = TrainJobRequest(nodes=2, image="train", namespace="ml")


class Pods:
    """Stands for the launcher and the cluster: starts what the TrainJob's pods would run, as two processes."""

    def __init__(self) -> None:
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.attempt = ""
        self.folder = Path()
        self.port = 0

    def start(self, launch: LaunchRequest) -> None:
        """What a cluster makes of the launch."""
        self.attempt = f"attempt{time.monotonic_ns()}"
        self.folder, self.port = Path(launch.work.job_file).parent, free_port()
        self.start_nodes(manifest(launch.request, launch.work, None, self.attempt)["spec"])

    def start_nodes(self, spec: dict) -> None:
        """All pods."""
        self.nodes = [self.start_node(spec, rank) for rank in range(spec["trainer"]["numNodes"])]

    def start_node(self, spec: dict, rank: int, **more: str) -> subprocess.Popen[bytes]:
        """One pod, with the variables that Kubeflow Trainer adds."""
        trainer = spec["trainer"]
        given = {
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_NODE_RANK": str(rank),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(self.port),
            "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")]),
        }
        given |= {variable["name"]: variable["value"] for variable in trainer["env"]} | more
        command = [sys.executable, *trainer["command"][1:], *trainer["args"]]
        log = (self.folder / f"log-{rank}").open("a")
        return subprocess.Popen(command, env=os.environ | given, cwd=ROOT, stderr=log, stdout=log)

    def launch(self, launch: LaunchRequest) -> None:
        """Takes the launcher's place: starts, waits, and raises what it would raise."""
        self.start(launch)
        codes = [pod.wait(timeout=180) for pod in self.nodes]
        told = failure_file(self.folder, self.attempt)
        if told.exists():
            words = json.loads(told.read_bytes())
            raise error_of(words["exit_code"], words["message"])
        if Preempted.exit_code in codes:
            raise Preempted("stopped")
        assert codes == [0, 0], self.words()

    def words(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("log-*")))


@pytest.fixture
def pods(monkeypatch):
    pods = Pods()
    monkeypatch.setenv(NODES, "2")
    monkeypatch.setenv(REQUEST, REQUESTED.model_dump_json())
    monkeypatch.setenv(RUN_ID, "run-1")
    monkeypatch.setattr(multinode, "_launch", pods.launch)
    yield pods
    for pod in pods.nodes:
        pod.kill()


def train(where: Path, config: ToyTrainingConfig = CONFIG) -> Job:
    """What a stage does: each attempt has the scratch of the one before, and an empty output."""
    for old in (where / "output").glob("*"):
        old.unlink()
    job = Job.create(config, {}, StageOutput(where / "output", where / "scratch"))
    launch_workers("tests.support.toy_training.worker", job, config)
    return job


def in_background(where: Path, config: ToyTrainingConfig = CONFIG) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            train(where, config)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


@pytest.fixture(scope="module")
def on_one_node(tmp_path_factory):
    where = tmp_path_factory.mktemp("one") / "run"
    attempt = Attempt(where)
    assert attempt.end() == 0, attempt.words()
    return outcome(where)


def test_a_stop_of_one_node_stops_both_and_two_nodes_learn_what_one_learns(pods, tmp_path, on_one_node):
    where = tmp_path / "run"
    where.mkdir()
    thread, errors = in_background(where)
    wait_for(where / "scratch" / "checkpoints" / f"{PREFIX}5" / MARKER)
    processes = [child for pod in pods.nodes for child in psutil.Process(pod.pid).children(recursive=True)]
    pods.nodes[1].terminate()
    thread.join(90)
    assert [pod.returncode for pod in pods.nodes] == [Preempted.exit_code] * 2, pods.words()
    assert isinstance(errors[0], Preempted)
    assert not psutil.wait_procs(processes, timeout=10)[1]
    for path in (where / "scratch").glob("started-*"):
        path.unlink()
    job = train(where)
    resumed = Job.load(job.scratch / f"attempt-{pods.attempt}.json")
    assert resumed.checkpoint is not None, "the second attempt began anew"
    assert outcome(where) == on_one_node


def test_a_process_that_is_killed_on_the_second_node_is_told_by_the_first_that_fails(pods, tmp_path):
    where = tmp_path / "run"
    where.mkdir()
    thread, errors = in_background(where, CONFIG.model_copy(update={"max_steps": 2000}))
    wait_for(where / "scratch" / "checkpoints" / f"{PREFIX}5" / MARKER)
    os.kill(int((where / "scratch" / "started-1").read_text()), signal.SIGKILL)
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(errors[0], StageError)
    assert "process 1 of 2, which was killed by SIGKILL" in str(errors[0])


def test_a_node_that_is_killed_ends_the_run_and_the_next_attempt_goes_on(pods, tmp_path, on_one_node):
    where = tmp_path / "run"
    where.mkdir()
    thread, errors = in_background(where)
    wait_for(where / "scratch" / "checkpoints" / f"{PREFIX}5" / MARKER)
    processes = psutil.Process(pods.nodes[0].pid).children(recursive=True)
    pods.nodes[0].kill()
    thread.join(90)
    assert not thread.is_alive()
    assert errors
    assert not psutil.wait_procs(processes, timeout=10)[1], "processes outlived their node"
    train(where)
    assert outcome(where) == on_one_node


@pytest.mark.slow
def test_a_process_that_waits_in_vain_for_one_on_another_node_is_told_of(pods, tmp_path):
    with pytest.raises(Preempted) as caught:
        train(tmp_path, CONFIG.model_copy(update={"hangs_at": 6, "collective_timeout_s": 3}))
    assert "stood still for toy_training.collective_timeout_s = 3 s" in str(caught.value)
    assert "(all_reduce)" in str(caught.value)
    assert "tests/support/toy_training/worker.py" in str(caught.value)
    assert [pod.returncode for pod in pods.nodes] == [Preempted.exit_code] * 2


def test_an_exception_on_the_second_node_is_quoted(pods, tmp_path):
    with pytest.raises(StageError) as caught:
        train(tmp_path, CONFIG.model_copy(update={"fails_at": 3}))
    assert "failed in process 1 of 2" in str(caught.value)
    assert "RuntimeError: the toy broke" in str(caught.value)


def test_processes_that_do_not_find_each_other_are_refused(pods, tmp_path, monkeypatch):
    """As with `accelerate launch`, which does not read the variables and trains alone."""

    def alone(launch: LaunchRequest) -> None:
        pods.folder = Path(launch.work.job_file).parent
        spec = manifest(launch.request, launch.work, None, "alone")["spec"]
        command = [sys.executable, "-m", "tests.support.toy_training.worker", spec["trainer"]["args"][2]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        raise StageError(done.stderr)

    monkeypatch.setattr(multinode, "_launch", alone)
    with pytest.raises(StageError, match="1 of 2 processes found each other"):
        train(tmp_path)


@pytest.fixture
def as_node(monkeypatch):
    for name, value in {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": "1", ATTEMPT: "a"}.items():
        monkeypatch.setenv(name, value)


def run_node(job: Job, digest: str) -> None:
    node.run(
        "tests.support.toy_training.worker",
        "tests.support.toy_training.config:ToyTrainingConfig",
        job.file,
        digest,
        offline=True,
    )


def test_a_node_that_sees_another_job_is_refused(as_node, tmp_path, monkeypatch):
    monkeypatch.setattr(node, "_VISIBLE_S", 0.2)
    job = Job.create(CONFIG, {}, StageOutput(tmp_path / "output", tmp_path / "scratch"))
    with pytest.raises(ClusterError, match="sees another one there"):
        run_node(job, "0" * 64)
    digest = node.sha256_of_file(job.file)
    job.file.unlink()
    with pytest.raises(ClusterError, match="sees none there"):
        run_node(job, digest)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"PET_NNODES": "3"}, ClusterError, "3 nodes with 1 processes each are not the 2 processes"),
        ({"PET_NODE_RANK": ""}, ClusterError, "must have mlPolicy.torch"),
        ({"PET_NPROC_PER_NODE": "2", "PET_NNODES": "1", "CUDA_VISIBLE_DEVICES": "0"}, ConfigError, "has 1 GPUs for 2"),
    ],
)
def test_a_node_that_is_not_one_of_those_asked_for_is_refused(as_node, tmp_path, monkeypatch, changed, error, words):
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    job = Job.create(CONFIG, {}, StageOutput(tmp_path / "output", tmp_path / "scratch"))
    with pytest.raises(error, match=words):
        run_node(job, node.sha256_of_file(job.file))


def test_gpus_are_counted_in_the_pods_not_where_the_launcher_runs(pods, tmp_path, monkeypatch):
    """The launcher's pod has none, and asks for those of its pods."""
    monkeypatch.setenv(REQUEST, REQUESTED.model_copy(update={"gpus_per_node": 4}).model_dump_json())
    launches = []
    monkeypatch.setattr(multinode, "_launch", launches.append)
    config = CONFIG.model_copy(update={"num_processes": 8, "needs_gpus": True})
    (tmp_path / "scratch" / "output").mkdir(parents=True)
    train(tmp_path, config)
    assert launches[0].work.processes_per_node == 4
    with pytest.raises(ConfigError, match="asks for 16 GPUs and finds 8"):
        train(tmp_path, config.model_copy(update={"num_processes": 16}))


def test_each_attempt_asks_for_the_same(pods, tmp_path, monkeypatch):
    launches = []
    monkeypatch.setattr(multinode, "_launch", launches.append)
    (tmp_path / "scratch" / "output").mkdir(parents=True)
    train(tmp_path)
    train(tmp_path)
    first, second = (manifest(launch.request, launch.work, None, "a")["metadata"] for launch in launches)
    assert first == second


@pytest.mark.cluster
def test_a_stage_has_a_trainjob_do_its_work_stops_it_and_goes_on_where_it_stopped(
    tmp_path, monkeypatch, kubeconfig, api, namespace, trainer_crds, on_one_node
):
    """All but Kubeflow Trainer and kubelets is real: the stage, its launcher, the API server, the pods' processes."""
    request = REQUESTED.model_copy(update={"namespace": namespace})
    given = {NODES: "2", REQUEST: request.model_dump_json(), RUN_ID: "run-1", "KUBECONFIG": str(kubeconfig)}
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    trainer, pods = Trainer(api, namespace), Pods()
    pods.folder, pods.port = tmp_path / "run" / "scratch", free_port()

    def played() -> tuple[str, list[str]]:
        """Kubeflow Trainer sees a TrainJob that is new."""
        (trainjob,) = wait_until(
            lambda: [each for each in trainer.trainjobs() if "deletionTimestamp" not in each["metadata"]]
        )
        name = trainjob["metadata"]["name"]
        made = trainer.make_pods(name, nodeName="node")
        trainer.run_pods(made)
        pods.start_nodes(trainjob["spec"])
        return name, made

    first = Attempt(tmp_path / "run")
    try:
        name, made = played()
        first.wait_for(f"checkpoints/{PREFIX}5/{MARKER}")
        first.stage.terminate()
        wait_until(lambda: trainer.is_deleted(name))
        for node_process in pods.nodes:
            node_process.terminate()
        assert [node_process.wait(60) for node_process in pods.nodes] == [Preempted.exit_code] * 2, pods.words()
        assert first.end() == Preempted.exit_code
        first.forget_start()
        second = Attempt(tmp_path / "run")
        for pod in made:
            trainer.core.delete_namespaced_pod(pod, namespace, grace_period_seconds=0)
        wait_until(lambda: trainer.get(name) is None)
        again, _ = played()
        assert again == name
        assert [node_process.wait(120) for node_process in pods.nodes] == [0, 0], pods.words()
        trainer.complete(again)
        assert second.end() == 0, second.words()
    finally:
        for node_process in pods.nodes:
            node_process.kill()
        first.stage.kill()
    assert outcome(tmp_path / "run") == on_one_node
