"""The walk: from a registered version through the manifests to the raw sources, and over every byte that they list."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pathoflow.contract.lineage import LINEAGE_TAG, read_references
from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import Manifest
from pathoflow.errors import SealError
from pathoflow.governance.audit.hashing import Hasher
from pathoflow.governance.audit.kubeflow import check_kfp_run
from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.outputs import StoredOutput
from pathoflow.governance.audit.places import Places
from pathoflow.governance.audit.provenance import History, check_code, check_configuration, check_image, check_sources
from pathoflow.governance.audit.report import AuditReport, Link, Output, Verdict
from pathoflow.governance.audit.runs import check_run, load_run, logged_manifest
from pathoflow.governance.audit.stores import MissingError, UnreachableError
from pathoflow.governance.audit.tags import check_tags
from pathoflow.governance.audit.trust import Trust, TrustCheck
from pathoflow.governance.audit.versions import Version, find_version
from pathoflow.stores.tracking import IDENTITY_TAG, REFERENCE_TAG


def audit(
    asked: str,
    places: Places,
    *,
    with_md5: bool = False,
    check_trust: TrustCheck | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> AuditReport:
    """Walks from a registered version to its raw sources and re-hashes everything on the way.

    Args:
        asked: `MODEL`, `MODEL@ALIAS` or `MODEL/VERSION`.
        places: The stores to look in.
        with_md5: Check DVC's own digest of each data file beside the manifest's SHA-256.
        check_trust: Verifies the version's signatures and the decision log; without it, the report says nothing of
            them.
        workers: Threads that hash; by default one for each core.
        progress: Is told of bytes as they are read, from several threads.

    Returns:
        The report. Whatever is wrong with the version or the stores is a link in it, no error.

    Raises:
        InputError: There is no such model, alias or version.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    facts: dict[str, Any] = {
        "asked": asked,
        "registry": places.tracking_uri,
        "started_at": started.isoformat(timespec="seconds"),
    }
    try:
        version = find_version(places.client, asked)
    except UnreachableError as error:
        link = Link(
            subject="version", check="registry", verdict=Verdict.UNKNOWN, detail=str(error), where=places.tracking_uri
        )
        facts |= {"aliases": (), "outputs": (), "edges": (), "tags": {}}
        return AuditReport(model=asked, version="?", took_s=time.perf_counter() - clock, links=(link,), **facts)
    with Hasher(workers, progress) as hasher:
        walk = _Walk(version, places, hasher, with_md5=with_md5)
        walk.collect()
        found = hasher.found()
    for output in walk.outputs.values():
        output.judge(found)
    walk.check_version()
    names = walk.names()
    model = walk.model
    manifest = model.manifest if model else None
    trust = check_trust(version, manifest) if check_trust else Trust()
    outputs = [
        Output(
            name=names[output.identity],
            stage=output.stage,
            identity=output.identity,
            reference=output.reference,
            manifest=output.manifest,
        )
        for output in walk.outputs.values()
    ]
    return AuditReport(
        model=version.name,
        version=version.number,
        aliases=version.aliases,
        took_s=time.perf_counter() - clock,
        links=tuple(walk.registry.found + trust.links.found + walk.links(names)),
        outputs=tuple(outputs),
        edges=tuple(walk.edges(names)),
        tags=version.tags,
        gates=tuple(trust.gates),
        approvals=tuple(trust.approvals),
        history=tuple(trust.history),
        **facts,
    )


class _Walk:
    """The outputs that a version stands on, in the order in which they are reached.

    Attributes:
        outputs: By identity.
        model: The version's own model, once the version was checked.
        registry: Links about the version's record itself.
    """

    def __init__(self, version: Version, places: Places, hasher: Hasher, *, with_md5: bool) -> None:
        self.version, self.places, self._hasher, self._with_md5 = version, places, hasher, with_md5
        self.outputs: dict[str, StoredOutput] = {}
        self.model: StoredOutput | None = None
        self.registry = Links("version")
        self._history = History(places.repository)
        self._references = self._recorded_references()

    def collect(self) -> None:
        """Reaches every output: reads its manifest, checks its records, and goes on to its inputs."""
        tags = self.version.tags
        if not self._references and IDENTITY_TAG not in tags:
            self.registry.unknown(
                "lineage",
                "the version has no lineage: it was not registered by the register stage, and nothing of it can be "
                "verified",
                self.version.label,
            )
            return
        prefix = f"{IDENTITY_TAG}."
        waiting = [(name.removeprefix(prefix), value) for name, value in tags.items() if name.startswith(prefix)]
        waiting += [(reference.stage, reference.identity) for reference in self._references.values()]
        waiting.sort(key=lambda item: item[1] != tags.get(IDENTITY_TAG))
        while waiting:
            stage, identity = waiting.pop(0)
            if identity not in self.outputs:
                manifest = self._reach(stage, identity)
                waiting += manifest.inputs.items() if manifest else ()
        for output in self.outputs.values():
            self._check(output)

    def _recorded_references(self) -> dict[str, Reference]:
        text, where = self.version.tags.get(LINEAGE_TAG), f"{self.version.label}, tag {LINEAGE_TAG}"
        if text is None:
            self.registry.unknown("lineage", "is missing; run the register stage again", where)
            return {}
        try:
            references = {reference.identity: reference for reference in read_references(text)}
        except SealError as error:
            self.registry.failed("lineage", str(error), where)
            return {}
        self.registry.passed("lineage", f"names {len(references)} outputs", where)
        return references

    def _reference(self, stage: str, identity: str, links: Links) -> Reference:
        """Finds where an output lies, by the version's own record or by the run that published it."""
        if identity in self._references:
            return self._references[identity]
        links.unknown("reference", f"{identity} is not in the version's lineage", self.version.label)
        try:
            run = self.places.find_run(identity)
        except (MissingError, UnreachableError) as error:
            links.unknown("run", f"cannot be looked up: {error}", identity)
            run = None
        if run:
            return Reference.model_validate_json(run.data.tags[REFERENCE_TAG])
        return Reference(stage=stage, kind="data", identity=identity)

    def _reach(self, stage: str, identity: str) -> Manifest | None:
        """Opens an output; where its own manifest is no good, the run's copy leads on."""
        links = Links(stage)
        output = StoredOutput(stage, identity, self._reference(stage, identity, links), links)
        self.outputs[identity] = output
        output.open(self.places, with_md5=self._with_md5)
        self._hasher.add(output.files.values())
        run = load_run(self.places, output.reference.run_id, links)
        copy = logged_manifest(self.places, run, identity, links) if run else None
        output.manifest = output.manifest or copy
        output.run = run
        return output.manifest

    def _check(self, output: StoredOutput) -> None:
        """Checks what can be said of an output without its bytes."""
        manifest, links = output.manifest, output.links
        if manifest is None:
            return
        if output.run:
            references = {identity: known.reference for identity, known in self.outputs.items()}
            check_run(self.places, output.run, manifest, references, links)
        check_configuration(manifest, links)
        check_code(manifest, self._history, links)
        check_image(manifest, self.version.tags.get("pathoflow.kfp_run_id"), links)
        check_sources(manifest, self._history, self.places.sources, links)

    def check_version(self) -> None:
        """Checks what the registry says of the version against what was reached."""
        version, links = self.version, self.registry
        links.equal("status", version.status, "READY", version.label, told_by="a finished registration")
        model = self.model = self._model()
        if model and model.reference.run_id:
            links.equal("run", version.run_id, model.reference.run_id, f"{version.label}, run", told_by="its lineage")
        check_tags(version, model.manifest if model else None, list(self.outputs.values()), links)
        check_kfp_run(version, self.places, links)

    def _model(self) -> StoredOutput | None:
        """Finds the output whose bytes the registry serves: it should be the one that the version's tag names."""
        links, where = self.registry, self.version.label
        named = self.outputs.get(self.version.tags.get(IDENTITY_TAG, ""))
        try:
            served = self.places.artifacts(self.version.uri).root
            models = {
                self.places.artifacts(output.reference.model_uri).root: output
                for output in self.outputs.values()
                if output.reference.model_uri
            }
        except (MissingError, UnreachableError) as error:
            links.unknown("source", str(error), self.version.uri)
            return named
        if served in models and models[served] is (named or models[served]):
            links.passed("source", f"serves {models[served].identity}", served)
            return models[served]
        if named and named.reference.model_uri:
            links.failed("source", f"serves what lies at {served}, not what its identity names", where)
        else:
            links.unknown("source", f"serves what lies at {served}, which no record tells of", where)
        return named

    def names(self) -> dict[str, str]:
        """Names each output, by identity: its stage, told apart where several of one stage take part."""
        names: dict[str, str] = {}
        for identity, output in self.outputs.items():
            taken = output.stage in names.values()
            names[identity] = f"{output.stage} {identity.removeprefix('sha256:')[:8]}" if taken else output.stage
        return names

    def edges(self, names: dict[str, str]) -> list[tuple[str, str]]:
        """Returns pairs of input and output, by name."""
        return [
            (names[source], names[output.identity])
            for output in self.outputs.values()
            if output.manifest
            for source in output.manifest.inputs.values()
            if source in names
        ]

    def links(self, names: dict[str, str]) -> list[Link]:
        """Returns every link of the outputs."""
        found: list[Link] = []
        for identity, output in self.outputs.items():
            found += [link.model_copy(update={"subject": names[identity]}) for link in output.links.found]
        return found
