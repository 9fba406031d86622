from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import pytest
from kubernetes import client

from pathoflow.cluster.cleanup import CleanupReport, Failure, clean_up, describe_end, remove_scratch
from pathoflow.cluster.settings import COMPONENT_LABEL, KFP_RUN_LABEL, PART_OF, PART_OF_LABEL
from pathoflow.cluster.trainjob_spec import GROUP, PLURAL, RUN_LABEL, VERSION, label_value
from pathoflow.errors import ClusterError
from tests.support.kube import api, kubeconfig, namespace, trainer_crds  # noqa: F401

LONG_AGO = time.time() - 40 * 86_400


def folder(checkpoints: Path, run_id: str, *, old: bool = False) -> Path:
    """A run's folder with a checkpoint, a download and a half-made output of one stage."""
    own = checkpoints / run_id
    for name in ("scratch/checkpoint-5", ".pathoflow/fetched", ".pathoflow/staging"):
        path = own / "sft" / name
        path.mkdir(parents=True)
        (path / "file").write_bytes(b"12345")
    if old:
        for path in [*own.rglob("*"), own]:
            os.utime(path, (LONG_AGO, LONG_AGO))
    return own


def test_a_run_that_succeeded_leaves_nothing_and_one_that_failed_what_a_retry_resumes_from(tmp_path):
    done, failed = str(uuid.uuid4()), str(uuid.uuid4())
    own, other = folder(tmp_path, done), folder(tmp_path, failed)
    cleaning = CleanupReport()
    remove_scratch(tmp_path, done, set(), cleaning, succeeded=True)
    assert not own.exists()
    assert cleaning.freed_bytes == 15
    assert (other / "sft" / ".pathoflow" / "staging").exists()
    remove_scratch(tmp_path, failed, set(), CleanupReport(), succeeded=False)
    assert (other / "sft" / "scratch" / "checkpoint-5" / "file").exists()
    assert not (other / "sft" / ".pathoflow" / "staging").exists()


def test_only_folders_of_runs_that_nobody_touched_for_long_and_that_have_no_pod_go(tmp_path):
    stale, busy, fresh = (str(uuid.uuid4()) for _ in range(3))
    for run_id in (stale, busy):
        folder(tmp_path, run_id, old=True)
    folder(tmp_path, fresh)
    (tmp_path / "hub").mkdir()
    os.utime(tmp_path / "hub", (LONG_AGO, LONG_AGO))
    remove_scratch(tmp_path, str(uuid.uuid4()), {busy}, CleanupReport(), succeeded=True)
    assert {path.name for path in tmp_path.iterdir()} == {busy, fresh, "hub"}


def test_the_report_names_stage_reason_remedy_and_log():
    failure = Failure("cpt", "pod-7", "OOMKilled", "Exit code 137.", attempts=3)
    text = describe_end("paper_7b", "r", "ml", "FAILED", [failure], CleanupReport(trainjobs=["cpt-1"]))
    assert "## cpt failed in 3 attempts: OOMKilled" in text
    assert "raise that, or lower batch size" in text
    assert "kubectl logs --namespace ml pod-7 --container main" in text
    assert "TrainJobs deleted: cpt-1" in text
    assert "finished stages are kept" in text
    assert "failed" not in describe_end("paper_7b", "r", "ml", "SUCCEEDED", [], CleanupReport())


@pytest.fixture
def run_id(api: client.ApiClient, namespace: str, trainer_crds: None) -> str:  # noqa: F811
    """A run with a failed pod, and a TrainJob of its own beside one of another run."""
    run_id, core = str(uuid.uuid4()), client.CoreV1Api(api)
    labels = {KFP_RUN_LABEL: run_id, PART_OF_LABEL: PART_OF, COMPONENT_LABEL: "sft"}
    pod = {"metadata": {"name": "sft-pod", "labels": labels}, "spec": {"containers": [{"name": "main", "image": "x"}]}}
    core.create_namespaced_pod(namespace, pod)
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:00Z"}
    container = {"name": "main", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": "Failed", "containerStatuses": [container | {"state": {"terminated": ended}}]}
    core.patch_namespaced_pod_status("sft-pod", namespace, {"status": status})
    for name, owner in (("own", run_id), ("other", "another-run")):
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "TrainJob",
            "metadata": {"name": name, "labels": {RUN_LABEL: label_value(owner)}},
            "spec": {},
        }
        client.CustomObjectsApi(api).create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, body)
    return run_id


@pytest.mark.cluster
def test_the_exit_task_deletes_the_runs_trainjobs_and_tells_what_failed(api, namespace, run_id, tmp_path):  # noqa: F811
    folder(tmp_path, run_id)
    report = tmp_path / "report.md"
    clean_up(api, namespace, "paper_7b", run_id, "FAILED", tmp_path, report)
    assert "## sft failed: OOMKilled" in report.read_text()
    assert "TrainJobs deleted: own" in report.read_text()
    left = client.CustomObjectsApi(api).list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL)["items"]
    assert [item["metadata"]["name"] for item in left] == ["other"]
    assert (tmp_path / run_id / "sft" / "scratch" / "checkpoint-5").exists()


@pytest.mark.cluster
def test_what_cannot_be_cleaned_up_is_told_after_the_report_was_written(api, namespace, tmp_path):  # noqa: F811
    settings = client.Configuration()
    settings.host, settings.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
    settings.api_key = {"authorization": "Bearer expired"}
    with pytest.raises(ClusterError, match="The token has expired"):
        clean_up(client.ApiClient(settings), namespace, "r", str(uuid.uuid4()), "FAILED", tmp_path, tmp_path / "report")
    assert "Could not delete" in (tmp_path / "report").read_text()
