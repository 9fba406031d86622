"""The launcher before a server that goes away, forgets, refuses or speaks another version, and networks that break."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from pathoflow.cluster.api_retries import ApiRetries
from pathoflow.cluster.trainjob_client import TrainJobClient
from pathoflow.cluster.trainjob_spec import GROUP, VERSION
from pathoflow.cluster.trainjob_watcher import TrainJobWatcher
from pathoflow.errors import ClusterError, Preempted
from tests.support.api_proxy import ApiProxy, Fault, api_proxy
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.kube import (
    ANYTHING,
    Trainer,
    api,
    kubeconfig,
    namespace,
    trainer_crds,
    trainer_crds_of,
    wait_until,
)
from tests.support.launching import Launched, Launchpad, launchpad

__all__ = ["api", "kubeconfig", "namespace", "trainer_crds"]

pytestmark = pytest.mark.cluster

WATCH = "watch=True"


@pytest.fixture
def trainer(api: client.ApiClient, namespace: str, trainer_crds: None) -> Trainer:
    return Trainer(api, namespace)


@pytest.fixture
def proxy(api: client.ApiClient, tmp_path: Path) -> Iterator[ApiProxy]:
    with api_proxy(api, tmp_path) as made:
        yield made


@pytest.fixture
def pad(tmp_path: Path, proxy: ApiProxy, namespace: str, trainer_crds: None) -> Iterator[Launchpad]:
    """Its launchers talk through the proxy."""
    with launchpad(tmp_path, proxy.kubeconfig, namespace) as made:
        yield made


def finish(trainer: Trainer, launched: Launched, within_s: float) -> None:
    """Has the TrainJob succeed, which the launcher has to notice."""
    trainer.complete(launched.name)
    assert launched.end(within_s) == 0, launched.said()


@pytest.mark.parametrize("kind", ["cut", "end"])
def test_watches_that_break_are_begun_again_without_a_word_and_without_hurry(pad, trainer, proxy, kind):
    proxy.faults = [Fault(kind, WATCH, count=3)]
    launched = pad.start()
    launched.wait_for("waits for its pods")
    began = time.monotonic()
    wait_until(lambda: proxy.faults[0].count == 0, 20)
    wait_until(lambda: proxy.count(WATCH) == 4)
    assert time.monotonic() - began > 5
    finish(trainer, launched, 3)
    assert launched.said().splitlines() == [
        f"Created {launched.title} on 2 nodes.",
        f"{launched.title} waits for its pods.",
        f"{launched.title} succeeded.",
    ]


def test_refusals_that_pass_are_waited_for_and_told_once(pad, trainer, proxy):
    proxy.faults = [
        Fault("503", method="POST", count=2),
        Fault("429", "/pods"),
        Fault("500", WATCH),
        Fault("401", WATCH),
    ]
    launched = pad.start()
    launched.wait_for("waits for its pods")
    wait_until(lambda: all(fault.count == 0 for fault in proxy.faults), 20)
    finish(trainer, launched, 20)
    said = launched.said()
    assert said.count(f"Could not create {launched.title}: made by the test (503") == 1
    assert said.count(f"Could not follow {launched.title}: made by the test (429") == 1
    assert "The API server answers again after" in said
    assert len(trainer.trainjobs(**{"pathoflow/run-id": launched.launch.work.run_id})) == 1


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(pad, trainer, proxy):
    launched = pad.start()
    launched.wait_for("waits for its pods")
    proxy.faults = [Fault("hang", "/pods")]
    wait_until(lambda: proxy.faults[0].count == 0, 20)
    launched.wait_for("Could not follow", 15)
    finish(trainer, launched, 15)


def test_a_server_that_refuses_connections_for_a_while(pad, trainer, proxy):
    launched = pad.start()
    launched.wait_for("waits for its pods")
    proxy.refuse()
    launched.wait_for("Trying on for up to 900 s.")
    assert launched.said().count("the API server does not answer") == 1
    trainer.complete(launched.name)
    proxy.accept()
    assert launched.end(15) == 0
    assert "The API server answers again after" in launched.said()


def test_told_to_stop_while_the_server_is_away_it_says_that_the_trainjob_goes_on(pad, trainer, proxy):
    launched = pad.start()
    launched.wait_for("waits for its pods")
    proxy.refuse()
    launched.wait_for("Could not follow")
    launched.terminate()
    # Within what Kubernetes gives a pod by default.
    assert launched.end(28) == Preempted.exit_code
    words = str(launched.error())
    assert words.startswith(f"Stopped on request, but {launched.title} goes on. Could not delete {launched.title}: ")
    assert words.endswith("Run the stage again to take it up.")
    assert trainer.get(launched.name)


def test_one_that_is_told_to_stop_before_it_made_anything_makes_nothing(pad, trainer, proxy):
    proxy.faults = [Fault("503", method="POST", count=100)]
    launched = pad.start()
    launched.wait_for("Could not create")
    launched.terminate()
    assert launched.end(20) == Preempted.exit_code
    assert trainer.get(launched.name) is None


def followed(pad: Launchpad, trainer: Trainer) -> tuple[TrainJobWatcher, TrainJobClient, Launched]:
    """A TrainJob that is followed in this process, and the launcher that has made it."""
    launched = pad.start()
    launched.wait_for("waits for its pods")
    launched.process.kill()
    trainjobs = TrainJobClient(trainer.core.api_client, trainer.namespace)
    found, _ = trainjobs.find(launched.name)
    assert found
    launch = launched.launch
    following = TrainJobWatcher(
        trainjobs, found, launch.request, launch.outcome.parent, launch.report, ApiRetries(print), print
    )
    return following, trainjobs, launched


def test_a_resource_version_that_the_server_has_forgotten_is_gone(pad, trainer):
    """Really so: the first version of all is older than what any server remembers."""
    following, trainjobs, launched = followed(pad, trainer)
    with pytest.raises(client.ApiException) as gone:
        list(trainjobs.watch(launched.name, "1", 1))
    assert gone.value.status == 410
    following._version = "1"
    trainer.complete(launched.name)
    following.wait()


def test_the_trainjob_that_somebody_has_made_anew_is_spared(pad, trainer):
    """Two launchers notice that theirs stopped: one deletes it and makes the next, and then the other deletes."""
    following, _, launched = followed(pad, trainer)
    trainer.delete(launched.name)
    wait_until(lambda: trainer.get(launched.name) is None)
    again = pad.again(launched)
    again.wait_for("waits for its pods")
    following._delete()
    assert not trainer.is_deleted(launched.name)
    with pytest.raises(ClusterError, match="was deleted by somebody else"):
        following.wait()


def test_a_server_that_forgets_all_the_time_is_not_asked_all_the_time(pad, trainer, proxy):
    launched = pad.start()
    launched.wait_for("waits for its pods")
    proxy.faults = [Fault("410", WATCH, count=1000)]
    since = time.monotonic()
    time.sleep(6)
    # A list and a watch every two seconds, and what looks at pods.
    assert proxy.count(since=since) <= 14
    proxy.faults = []
    finish(trainer, launched, 5)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane")) as made:
        yield made


@pytest.fixture
def site(plane: ControlPlane, tmp_path: Path) -> Iterator[Launchpad]:
    """Its launchers talk to the test's own API server."""
    with launchpad(tmp_path, plane.kubeconfig, "default") as made:
        yield made


def test_a_cluster_without_kubeflow_trainer(site):
    launched = site.start()
    error = launched.error()
    assert type(error) is ClusterError
    assert str(error) == (
        f"Could not create {launched.title}: Not Found (404 Not Found). The cluster lacks this API: install the "
        "operator; see `pathoflow doctor`."
    )


def test_a_trainer_of_another_version(site, plane):
    own = plane.client()
    with trainer_crds_of(own, version="v2"):
        launched = site.start()
        error = launched.error()
    assert type(error) is ClusterError
    assert str(error).startswith(f"Could not create {launched.title}: ")
    assert f"It serves {GROUP} in v2, and this pathoflow speaks {VERSION}: install a Kubeflow Trainer" in str(error)


def test_a_trainer_that_is_too_old_for_patches_of_its_runtime(site, plane):
    own = plane.client()
    old = {"type": "object", "properties": {"trainer": ANYTHING}}
    with trainer_crds_of(own, spec=old):
        launched = site.start()
        error = launched.error()
        assert Trainer(own, "default").is_deleted(launched.name)
    assert type(error) is ClusterError
    assert str(error) == (
        f"{launched.title} lost its runtimePatches: the cluster's Kubeflow Trainer is older than 2.2. Upgrade it; see "
        "`pathoflow doctor`."
    )


def test_an_api_server_that_is_killed_and_comes_back_without_its_memory(site, plane):
    """What it knew of the past is gone, and the TrainJob has not changed since: its own version is too old, too."""
    own = plane.client()
    with trainer_crds_of(own):
        trainer = Trainer(own, "default")
        launched = site.start()
        trainer.run_pods(trainer.make_pods(launched.name))
        launched.wait_for("has 2 of 2 pods running")
        plane.stop_server()
        launched.wait_for("the API server does not answer")
        plane.start_server()
        for number in range(3):
            trainer.core.create_namespaced_config_map("default", {"metadata": {"name": f"{launched.name}-{number}"}})
        plane.forget()
        version = trainer.wait_for(launched.name)["metadata"]["resourceVersion"]
        with pytest.raises(client.ApiException) as gone:
            list(TrainJobClient(own, "default").watch(launched.name, version, 1))
        assert gone.value.status == 410
        launched.wait_for("The API server answers again after")
        taken_up = site.again(launched)
        taken_up.wait_for("has 2 of 2 pods running")
        trainer.complete(launched.name)
        assert (launched.end(3), taken_up.end(3)) == (0, 0), launched.said()
        assert len(trainer.trainjobs()) == 1


def test_one_that_is_started_while_the_server_starts(site, plane):
    own = plane.client()
    with trainer_crds_of(own):
        plane.stop_server()
        launched = site.start()
        launched.wait_for("the API server does not answer")
        plane.start_server()
        launched.wait_for("Created ")
        Trainer(own, "default").complete(launched.name)
        assert launched.end(10) == 0


@pytest.mark.slow
def test_launchers_and_servers_that_die_all_the_time_make_one_trainjob_and_lose_nothing(site, plane):
    """Twenty launchers are killed at any moment, and the server every now and then."""
    own, rng = plane.client(), random.Random(7)
    with trainer_crds_of(own):
        trainer = Trainer(own, "default")
        launched = site.start()
        uids = set()
        for number in range(20):
            time.sleep(rng.uniform(0, 3))
            launched.process.kill()
            launched.process.wait()
            if number % 5 == 4:
                plane.stop_server()
            launched = site.again(launched)
            if number % 5 == 4:
                time.sleep(rng.uniform(0, 3))
                plane.start_server()
            uids |= {each["metadata"]["uid"] for each in trainer.trainjobs()}
        trainer.run_pods(trainer.make_pods(launched.name))
        trainer.complete(launched.name)
        assert launched.end(30) == 0, launched.said()
        assert len(uids) == 1
