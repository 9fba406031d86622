"""A version's tags against the manifests that they were taken from."""

from __future__ import annotations

from collections.abc import Sequence

from pathoflow.contract.sealing import Manifest
from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.outputs import StoredOutput
from pathoflow.governance.audit.versions import Version
from pathoflow.stores.tracking import IDENTITY_TAG

_METRIC = "metric."
_DVC = "pathoflow.dvc."


def check_tags(version: Version, model: Manifest | None, outputs: Sequence[StoredOutput], links: Links) -> None:
    """Compares every tag that tells of lineage with the manifests.

    Args:
        version: Has the tags.
        model: The manifest of the version's own model.
        outputs: Everything that was reached.
        links: Gets what was found.
    """
    where = f"{version.label}, tag "
    if model is None:
        links.unknown("tags", "the model's manifest, which they were taken from, is not known", version.label)
        return
    expected = {
        IDENTITY_TAG: model.identity,
        "pathoflow.config_digest": model.config_digest,
        "pathoflow.code_commit": model.code.commit or "unknown",
        "pathoflow.code_dirty": str(model.code.dirty).lower(),
        "pathoflow.image_digest": model.image_digest or "none",
    }
    by_identity = {output.identity: output for output in outputs}
    for stage, identity in model.inputs.items():
        reference = by_identity[identity].reference if identity in by_identity else None
        if reference and reference.dvc_md5:
            expected[f"{_DVC}{stage}"] = reference.dvc_md5
    for name, value in expected.items():
        links.equal("tags", version.tags.get(name), value, where + name, told_by="the model's manifest")
    _check_identities(version, model, outputs, links)
    _check_metrics(version, model, outputs, links)
    for name in sorted(tag for tag in version.tags if tag.startswith(_DVC) and tag not in expected):
        links.failed("tags", "names a data set that the model was not made from", where + name)


def _check_identities(version: Version, model: Manifest, outputs: Sequence[StoredOutput], links: Links) -> None:
    """Checks that each `pathoflow.identity.<stage>` names an output that the version stands on or was judged by."""
    wanted = {model.stage: model.identity, **model.inputs}
    for output in _ends(outputs):
        wanted |= (output.manifest.inputs if output.manifest else {}) | {output.stage: output.identity}
    for stage, identity in sorted(wanted.items()):
        name = f"{IDENTITY_TAG}.{stage}"
        links.equal("tags", version.tags.get(name), identity, f"{version.label}, tag {name}", told_by="the manifests")
    prefix = f"{IDENTITY_TAG}."
    for name in sorted(tag for tag in version.tags if tag.startswith(prefix)):
        if name.removeprefix(prefix) not in wanted:
            links.failed("tags", "names an output that no manifest leads to", f"{version.label}, tag {name}")


def _check_metrics(version: Version, model: Manifest, outputs: Sequence[StoredOutput], links: Links) -> None:
    """Checks each `metric.<name>` against the figures of what judged the model, or `<stage>_<name>` of another end."""
    figures: dict[str, float] = {}
    for output in _ends(outputs):
        if output.manifest is None or output.manifest == model:
            continue
        if output.manifest.kind == "data":
            figures |= output.manifest.metrics
        else:
            figures |= {f"{output.stage}_{name}": value for name, value in output.manifest.metrics.items()}
    names = {tag.removeprefix(_METRIC) for tag in version.tags if tag.startswith(_METRIC)}
    for name in sorted(names | figures.keys()):
        where, found = f"{version.label}, tag {_METRIC}{name}", version.tags.get(f"{_METRIC}{name}")
        if name in figures:
            links.equal("figures", found, f"{figures[name]:.6g}", where, told_by="the manifests")
        else:
            links.unknown("figures", f"says {found}; no manifest that was reached has such a figure", where)


def _ends(outputs: Sequence[StoredOutput]) -> list[StoredOutput]:
    """Returns the outputs that no other was made from."""
    used = {identity for output in outputs if output.manifest for identity in output.manifest.inputs.values()}
    return [output for output in outputs if output.identity not in used]
