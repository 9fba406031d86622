"""Registration: a new version's signature, card and log entry, and its place as the champion of dev."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pathoflow.contract.sealing import Manifest
from pathoflow.governance.registry import cards
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.aliases import EnvironmentState
from pathoflow.governance.registry.intents import move
from pathoflow.governance.registry.names import registered
from pathoflow.governance.registry.promotion import locked
from pathoflow.governance.registry.verification import sign_model, weights_digest

_MAX_DESCRIPTION = 5000
_TOLD_BY_LOG = ("pathoflow.kfp_run_id", "pathoflow.parent_version")
"""Tags that no manifest knows: what they say is signed with the log's entry."""


def register_version(
    registry: Registry,
    model: str,
    version: int,
    manifest: Manifest,
    others: Mapping[str, Manifest],
    references: Mapping[str, str],
    license_name: str,
) -> None:
    """Signs a version of `<model>.dev`, keeps its card, logs it, and makes it the champion of dev.

    The rule of dev: what was registered last is the champion. Nothing is served from dev, so that no gate is asked.
    Done again for the same version, it changes nothing.

    Args:
        registry: Where.
        model: The model's name, without the environment.
        version: The version that MLflow has given.
        manifest: Of the model.
        others: Manifests of its scores and of others that tell of it, by stage.
        references: Identity by stage of all that the model stands on.
        license_name: Licence of the weights.
    """
    name = registered(model, "dev")
    card = cards.write(model, manifest, others["vqa_benchmarks"], references, license_name)
    with locked(registry, model) as (check, repaired):
        for line in repaired:
            print(line)
        tags = registry.client.get_model_version(name, str(version)).tags
        details: dict[str, Any] = {
            "identity": manifest.identity,
            "weights": weights_digest(manifest),
            "signature": sign_model(registry, manifest),
            "card": cards.keep(registry, card),
            "tags": {tag: value for tag, value in tags.items() if tag in _TOLD_BY_LOG},
            "evidence": {
                stage: found.identity for stage, found in sorted({**others, manifest.stage: manifest}.items())
            },
        }
        registry.client.update_model_version(name, str(version), card[card.index("# ") :][:_MAX_DESCRIPTION])
        state = EnvironmentState.read(registry.log.head().states.get(name))
        known = any(
            entry.action == "register"
            and entry.details.get("version") == f"{name}/{version}"
            and entry.details.get("card") == details["card"]
            for entry in registry.log.entries()
        )
        if known and state.champion == version:
            return
        move(registry, model, name, "register", details, to=EnvironmentState.promoted, check=check, version=version)
