"""The Kubeflow Pipelines run that a version says it came from."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from urllib.parse import quote

from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.places import Places
from pathoflow.governance.audit.versions import Version

KFP_TAG = "pathoflow.kfp_run_id"
_TIMEOUT_S = 20


def check_kfp_run(version: Version, places: Places, links: Links) -> None:
    """Looks the run up, if the version came from a cluster."""
    run_id, where = version.tags.get(KFP_TAG), f"{version.label}, tag {KFP_TAG}"
    if run_id is None:
        links.unknown("KFP run", "is not recorded", where)
    elif run_id == "local":
        links.passed("KFP run", "none: a local run", where)
    elif not places.kfp_endpoint:
        links.unknown("KFP run", f"{run_id} cannot be looked up: set KFP_ENDPOINT", where)
    else:
        _look_up(places.kfp_endpoint, run_id, links)


def _look_up(endpoint: str, run_id: str, links: Links) -> None:
    url = f"{endpoint.rstrip('/')}/apis/v2beta1/runs/{quote(run_id, safe='')}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            state = json.load(response).get("state")
    except urllib.error.HTTPError as error:
        gone = error.code == 404
        links.unknown("KFP run", f"{run_id} is gone" if gone else f"cannot be looked up: {error}", url)
    except (OSError, ValueError) as error:
        links.unknown("KFP run", f"cannot be looked up: {error}", url)
    else:
        links.equal("KFP run", state, "SUCCEEDED", url, told_by="the registration of its model")
