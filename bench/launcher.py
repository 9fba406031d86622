"""Measures the launcher of TrainJobs on a real API server: its latency, its memory and its requests.

It runs as the process that it is, behind a proxy that counts requests. The bench plays Kubeflow Trainer: it makes the
pods, says that they run, and at last that the TrainJob has succeeded. `PATHOFLOW_TEST_KUBECONFIG` names the cluster.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from kubernetes import config

from bench.memory import PeakMemory
from bench.report import Figure, conclude
from tests.support.api_proxy import ApiProxy, api_proxy
from tests.support.kube import Trainer, install_trainer_crds, new_namespace
from tests.support.launching import Launched, Launchpad, launchpad

_WAIT_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer TrainJobs, and a shorter wait")
    quick = parser.parse_args().quick
    kubeconfig = os.environ.get("PATHOFLOW_TEST_KUBECONFIG")
    if not kubeconfig:
        sys.exit("PATHOFLOW_TEST_KUBECONFIG must name the kubeconfig of a test cluster's administrator.")
    api = config.new_client_from_config(kubeconfig)
    install_trainer_crds(api)
    with tempfile.TemporaryDirectory() as name, new_namespace(api) as namespace:
        folder, trainer = Path(name), Trainer(api, namespace)
        with api_proxy(api, folder) as proxy, launchpad(folder, proxy.kubeconfig, namespace) as pad:
            delays = [_notice(pad, trainer) for _ in range(3 if quick else 12)]
            peak_bytes, starting, waiting = _wait(pad, trainer, proxy, 20.0 if quick else _WAIT_S)
    print(
        f"{len(delays)} TrainJobs; from success to the launcher's end {min(delays):.2f} to {max(delays):.2f} s; "
        f"{starting} requests until all pods ran"
    )
    conclude(
        "Launcher of TrainJobs",
        [
            Figure("a TrainJob's success to the launcher's end, longest", max(delays), "s", "a bar we set", 2),
            Figure("the launcher's memory, peak", peak_bytes / 2**20, "MiB", "a bar we set", 120),
            Figure("requests while it waits", waiting, "per s", "a bar we set", 1),
        ],
    )


def _started(pad: Launchpad, trainer: Trainer) -> Launched:
    """Starts a launcher whose TrainJob runs on all its nodes."""
    launched = pad.start()
    trainer.run_pods(trainer.make_pods(launched.name))
    launched.wait_for("has 2 of 2 pods running")
    return launched


def _notice(pad: Launchpad, trainer: Trainer) -> float:
    """Returns the seconds from a TrainJob's success to the end of the launcher's process."""
    launched = _started(pad, trainer)
    changed_at = trainer.complete(launched.name)
    code = launched.end()
    ended_at = time.time()
    assert code == 0, launched.said()
    return ended_at - changed_at


def _wait(pad: Launchpad, trainer: Trainer, proxy: ApiProxy, for_s: float) -> tuple[int, int, float]:
    """Returns a launcher's peak memory, its requests until its pods run, and its requests per second while it waits."""
    before = proxy.count()
    launched = _started(pad, trainer)
    memory = PeakMemory(launched.process.pid, interval_s=0.1)
    memory.start()
    starting, began = proxy.count() - before, time.monotonic()
    time.sleep(for_s)
    waiting = proxy.count(since=began) / (time.monotonic() - began)
    trainer.complete(launched.name)
    assert launched.end() == 0, launched.said()
    return memory.peak_bytes, starting, waiting


if __name__ == "__main__":
    main()
