"""A sealed directory is what was sealed, byte for byte, or an error that names what is not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathoflow.contract.sealing import (
    MANIFEST_FILE,
    Code,
    Counts,
    Manifest,
    describe_files,
    read_manifest,
    seal,
    verify,
    work_key,
)
from pathoflow.errors import InputError, SealError, StageError
from tests.support.toy.config import ToyConfig

FACTS = {
    "code": Code(commit="0123abc", dirty=False, digest="sha256:00"),
    "image_digest": None,
    "inputs": {"atlas": "sha256:11"},
    "external_files": (),
    "counts": Counts(num_in=3, num_out=2, quarantined={"torn": 1}),
    "metrics": {"recall": 0.1 + 0.2, "tiny": 5e-324},
    "notes": {"teacher": "template ✓"},
}
# Folders begin with d and files with f, so that no path is both.
PATHS = st.builds(
    lambda folders, name: "/".join([*(f"d{folder}" for folder in folders), f"f{name}"]),
    st.lists(st.sampled_from(["1", " 2", "é"]), max_size=2),
    st.sampled_from(["", "a", "a.b", "图", "#%", "\n", "manifest.json"]),
)
TREES = st.dictionaries(PATHS, st.binary(max_size=40), min_size=1, max_size=5)
few = settings(max_examples=25, deadline=None)


def write(root: Path, tree: dict[str, bytes]) -> Path:
    for name, content in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@contextmanager
def sealed(tree: dict[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder) / "stage", tree)
        seal(root, config=ToyConfig(), **FACTS)
        yield root


@given(tree=TREES, data=st.data())
@few
def test_any_flipped_byte_is_found_and_its_file_named(tree, data):
    with sealed(tree) as root:
        verify(root)
        files = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
        path = data.draw(st.sampled_from(files))
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        with pytest.raises(SealError) as error:
            verify(root)
        assert f"{path} " in str(error.value)


@given(tree=TREES, data=st.data())
@few
def test_a_removed_added_or_renamed_file_is_found_and_named(tree, data):
    with sealed(tree) as root:
        path = root / data.draw(st.sampled_from(sorted(tree)))
        change = data.draw(st.sampled_from(["remove", "add", "rename", "shorten to nothing"]))
        if change == "add":
            path = path.with_name("new.bin")
            path.write_bytes(b"")
        elif change == "rename":
            path.rename(path.with_name("new.bin"))
        elif change == "remove":
            path.unlink()
        elif path.stat().st_size:
            path.write_bytes(b"")
        else:
            return
        with pytest.raises(SealError) as error:
            verify(root)
        assert f"{path} " in str(error.value)


@given(tree=TREES)
@few
def test_the_identity_depends_on_the_content_and_not_on_the_place(tree):
    with tempfile.TemporaryDirectory() as folder:
        one = write(Path(folder) / "one", tree)
        other = write(Path(folder) / "else" / "where", dict(reversed(tree.items())))
        first = seal(one, config=ToyConfig(), **FACTS)
        assert seal(other, config=ToyConfig(), **FACTS).identity == first.identity
        moved = shutil.copytree(one, Path(folder) / "moved")
        assert verify(moved).identity == first.identity
        (other / "more").write_bytes(b"")
        assert seal(other, config=ToyConfig(), **FACTS).identity != first.identity


@given(
    metrics=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    notes=st.dictionaries(st.text(max_size=5), st.text(), max_size=3),
    config=st.builds(ToyConfig, text=st.text(), score=st.floats(0, 1)),
)
@few
def test_a_manifest_read_again_is_the_one_written(metrics, notes, config):
    with tempfile.TemporaryDirectory() as folder:
        written = seal(Path(folder), config=config, **FACTS | {"metrics": metrics, "notes": notes})
        read = read_manifest(Path(folder))
    assert read == written
    assert read.identity == written.identity
    assert read.key == written.key


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"identity": 3}', b"null"])
def test_a_manifest_that_is_none_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(SealError, match=str(tmp_path / MANIFEST_FILE)):
        verify(tmp_path)


def test_figures_edited_in_a_manifest_are_found(tmp_path):
    seal(tmp_path, config=ToyConfig(), **FACTS)
    path = tmp_path / MANIFEST_FILE
    path.write_text(path.read_text().replace('"num_out": 2', '"num_out": 3'))
    with pytest.raises(SealError, match=str(path)):
        verify(tmp_path)


def test_a_key_added_to_a_manifest_is_found(tmp_path):
    seal(tmp_path, config=ToyConfig(), **FACTS)
    path = tmp_path / MANIFEST_FILE
    path.write_text(path.read_text().replace("{\n", '{\n  "approved": true,\n', 1))
    with pytest.raises(SealError, match=str(path)):
        verify(tmp_path)


def test_a_directory_without_manifest_is_not_sealed(tmp_path):
    (tmp_path / "half.bin").write_bytes(b"1")
    with pytest.raises(SealError, match="is not sealed"):
        verify(tmp_path)
    with pytest.raises(SealError, match="does not exist"):
        verify(tmp_path / "nowhere")


def test_links_are_neither_sealed_nor_overlooked(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    seal(tmp_path, config=ToyConfig(), **FACTS)
    (tmp_path / "loose").symlink_to(tmp_path / "nothing")
    with pytest.raises(SealError, match="loose was added"):
        verify(tmp_path)
    with pytest.raises(StageError, match="loose, which is no regular file"):
        seal(tmp_path, config=ToyConfig(), **FACTS)


def test_a_folder_is_sealed_with_files_in_it_only(tmp_path):
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    assert seal(tmp_path, config=ToyConfig(), **FACTS).files == ()
    verify(tmp_path)


def test_a_name_that_is_no_text_is_told(tmp_path):
    path = Path(str(tmp_path) + "/\udcff.pdf")
    path.write_bytes(b"1")
    with pytest.raises(InputError, match="Rename"):
        describe_files([path])


def test_the_manifest_holds_what_the_contract_asks_for(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    manifest = seal(tmp_path, config=ToyConfig(text="hi"), **FACTS)
    assert manifest.files[0].model_dump() == {
        "path": "a",
        "bytes": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    assert (manifest.stage, manifest.kind, manifest.config["text"]) == ("toy", "data", "hi")
    assert manifest.config_digest == ToyConfig(text="hi").digest()


def test_the_work_key_follows_what_decides_the_output(tmp_path):
    def key(**changed) -> str:
        facts = {
            "stage": "toy",
            "config_digest": "c",
            "code_digest": "d",
            "inputs": {"a": "1"},
            "external_files": describe_files([book]),
        }
        return work_key(**facts | changed)

    book = tmp_path / "book.pdf"
    book.write_bytes(b"page")
    moved = tmp_path / "shelf" / "book.pdf"
    moved.parent.mkdir()
    moved.write_bytes(b"page")
    renamed = tmp_path / "other.pdf"
    renamed.write_bytes(b"page")
    assert key() == key(external_files=describe_files([moved]))
    others = [
        key(stage="x"),
        key(config_digest="x"),
        key(code_digest="x"),
        key(inputs={"a": "2"}),
        key(inputs={"b": "1"}),
        key(external_files=describe_files([renamed])),
        key(external_files=()),
    ]
    assert len({key(), *others}) == 8


def test_every_field_of_a_manifest_is_part_of_the_identity(tmp_path):
    manifest = seal(tmp_path, config=ToyConfig(), **FACTS)
    changed = {
        "stage": "x",
        "kind": "model",
        "config": {},
        "config_digest": "x",
        "code": Code(commit=None, dirty=None, digest="x"),
        "image_digest": "x",
        "inputs": {},
        "external_files": describe_files([Path(__file__)]),
        "files": describe_files([Path(__file__)]),
        "counts": Counts(num_in=0, num_out=0, quarantined={}),
        "metrics": {},
        "notes": {},
        "schema_version": 2,
    }
    assert changed.keys() == Manifest.model_fields.keys()
    identities = {manifest.model_copy(update={name: value}).identity for name, value in changed.items()}
    assert len(identities | {manifest.identity}) == len(changed) + 1
