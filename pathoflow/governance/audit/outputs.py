"""One sealed output as it is stored: its manifest is read, and its files are listed for hashing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mlflow.entities import Run

from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import MANIFEST_FILE, Manifest, parse_manifest
from pathoflow.errors import SealError
from pathoflow.governance.audit.hashing import Found, StoredFile
from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.places import Places
from pathoflow.governance.audit.stores import MissingError, Store, UnreachableError, read_sound

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass
class StoredOutput:
    """An output whose records and bytes are looked at.

    Attributes:
        stage: The stage that made it.
        identity: Its identity, as recorded by whoever stands on it.
        reference: Where it is stored.
        links: What was found.
        manifest: Its manifest; None if no sound copy was found.
        files: What there is to hash, by path in the output.
        run: The MLflow run that published it.
    """

    stage: str
    identity: str
    reference: Reference
    links: Links
    manifest: Manifest | None = None
    files: dict[str, StoredFile] = field(default_factory=dict)
    run: Run | None = None

    def open(self, places: Places, *, with_md5: bool) -> None:
        """Reads the listing and the manifest, and lists the files to hash.

        Args:
            places: Where to look.
            with_md5: Whether DVC's own digest of each file is checked beside the manifest's.
        """
        where = self.reference.model_uri or self.reference.dvc_md5 or "nowhere"
        try:
            if self.reference.dvc_md5:
                store = places.data(self.reference)
                where = f"{store.root}/{object_name(self.reference.dvc_md5)}"
                objects = self._listing(store, self.reference.dvc_md5)
            elif self.reference.model_uri:
                store = places.artifacts(self.reference.model_uri)
                objects = {name: (name, None) for name in store.names()}
            else:
                self.links.unknown("reference", "says nowhere where the output is stored; publish it again", where)
                return
        except (MissingError, UnreachableError) as error:
            self.links.unknown("bytes", f"cannot be reached: {error}", where)
            return
        except SealError as error:
            self.links.failed("listing", str(error), where)
            return
        self._read_manifest(store, objects)
        self._list_files(store, objects, with_md5)

    def _listing(self, store: Store, dvc_md5: str) -> dict[str, tuple[str, str | None]]:
        """DVC's listing of the data set: by path, the object's name in the remote and its MD5."""
        name = object_name(dvc_md5)

        def parse(content: bytes) -> tuple[dict[str, tuple[str, str | None]], int]:
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if f"{found}.dir" != dvc_md5:
                raise SealError(f"was changed: its MD5 is {found}")
            try:
                listed: dict[str, tuple[str, str | None]] = {
                    entry["relpath"]: (object_name(entry["md5"]), entry["md5"])
                    for entry in json.loads(content)
                    if _MD5.fullmatch(entry["md5"])
                }
            except (ValueError, KeyError, TypeError) as error:
                raise SealError("is no listing of DVC") from error
            return listed, len(content)

        entries, num_bytes = read_sound(store, name, parse)
        self.links.passed("listing", f"{len(entries)} files", f"{store.root}/{name}", num_bytes)
        return entries

    def _read_manifest(self, store: Store, objects: Mapping[str, tuple[str, str | None]]) -> None:
        if MANIFEST_FILE not in objects:
            self.links.unknown("manifest", "is missing", f"{store.root}/{MANIFEST_FILE}")
            return
        name = objects[MANIFEST_FILE][0]
        where = f"{store.root}/{name}"

        def parse(content: bytes) -> tuple[Manifest, int]:
            try:
                manifest = parse_manifest(content)
            except SealError as error:
                raise SealError(f"{MANIFEST_FILE} {error}") from error
            if manifest.identity != self.identity:
                raise SealError(f"is that of {manifest.stage} {manifest.identity}, not of {self.identity}")
            return manifest, len(content)

        try:
            self.manifest, num_bytes = read_sound(store, name, parse)
        except (MissingError, UnreachableError) as error:
            self.links.unknown("manifest", f"cannot be read: {error}", where)
        except SealError as error:
            self.links.failed("manifest", str(error), where)
        else:
            self.links.passed("manifest", self.identity, where, num_bytes)

    def _list_files(self, store: Store, objects: Mapping[str, tuple[str, str | None]], with_md5: bool) -> None:
        if self.manifest is None:
            return
        listed = {file.path: file for file in self.manifest.files}
        for path in sorted(objects.keys() - listed.keys() - {MANIFEST_FILE}):
            self.links.failed("bytes", f"{path} was added after the seal", f"{store.root}/{objects[path][0]}")
        for path, file in listed.items():
            if not is_inside(path):
                self.links.failed("bytes", f"the manifest lists {path!r}, which leads out of the output", store.root)
            elif path not in objects:
                self.links.unknown("bytes", f"{path} is missing", f"{store.root}/{path}")
            else:
                name, md5 = objects[path]
                self.files[path] = StoredFile(store, name, file.sha256, file.bytes, md5 if with_md5 else None)

    def judge(self, found: Mapping[tuple[str, str], Found]) -> None:
        """Compares what was read with what was sealed; one link for all that is well, and one for each other file."""
        num_good, num_bytes = 0, 0
        for path, file in self.files.items():
            result = found[file.store.root, file.name]
            num_bytes += result.num_bytes
            if result.sha256 is None:
                word = "is missing" if result.missing else f"cannot be read: {result.error}"
                self.links.unknown("bytes", f"{path} {word}", file.location)
            elif (result.sha256, result.num_bytes) != (file.sha256, file.num_bytes):
                self.links.failed(
                    "bytes",
                    f"{path} was changed: {result.num_bytes} bytes with SHA-256 {result.sha256[:12]}…, sealed as "
                    f"{file.num_bytes} bytes with {file.sha256[:12]}…",
                    file.location,
                )
            elif file.md5 and result.md5 != file.md5:
                self.links.failed("bytes", f"{path} has MD5 {result.md5}, but DVC lists {file.md5}", file.location)
            else:
                num_good += 1
        # An output without any file but its manifest is whole, too.
        if self.manifest and num_good == len(self.manifest.files):
            root = next((file.store.root for file in self.files.values()), self.reference.model_uri or "")
            self.links.passed("bytes", f"{num_good} files as they were sealed", root, num_bytes)


def object_name(md5: str) -> str:
    """Returns where a DVC remote keeps the object with this digest.

    >>> object_name("0123abcd.dir")
    'files/md5/01/23abcd.dir'
    """
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def is_inside(path: str) -> bool:
    """Returns whether a path from a manifest stays in the output's folder.

    >>> is_inside("model/weights.bin"), is_inside("../x"), is_inside("/etc/passwd"), is_inside("a/../../x")
    (True, False, False, False)
    """
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\\" not in path and "\0" not in path
