"""Only a checkpoint that is whole, byte for byte, and belongs to the run is resumed from."""

from __future__ import annotations

import pytest

from pathoflow.training.checkpoints import (
    MARKER,
    complete,
    differences,
    is_complete,
    list_files,
    newest_complete,
    staging_of,
)

ORIGIN = {"config": {"learning_rate": 1e-5, "data_workers": 2}, "inputs": {"corpus": "sha256:ab"}}


def checkpoint(directory, step, *, keep=9):
    staging = staging_of(directory, step)
    (staging / "global_step").mkdir(parents=True)
    (staging / "weights.safetensors").write_bytes(b"weights" * step)
    (staging / "global_step" / "state.pt").write_bytes(b"state")
    list_files(staging, 0, [staging / "weights.safetensors"])
    list_files(staging, 1, [staging / "global_step" / "state.pt"])
    return complete(staging, ORIGIN, keep)


def test_the_newest_complete_one_is_found_and_half_written_ones_are_deleted(tmp_path):
    old = checkpoint(tmp_path, 9)
    good = checkpoint(tmp_path, 10)
    unmarked = checkpoint(tmp_path, 11)
    (unmarked / MARKER).unlink()
    staging = staging_of(tmp_path, 12)
    staging.mkdir()
    assert newest_complete(tmp_path) == good
    assert not unmarked.exists()
    assert not staging.exists()
    assert old.exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "extra", "marker"])
def test_damage_makes_a_checkpoint_incomplete(tmp_path, damage):
    path = checkpoint(tmp_path, 3)
    assert is_complete(path)
    weights = path / "weights.safetensors"
    data = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(data[:-1])
    elif damage == "flipped":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "missing":
        (path / "global_step" / "state.pt").unlink()
    elif damage == "extra":
        (path / "rng_state_1.pth").write_bytes(b"")
    else:
        (path / MARKER).write_text('{"weights.safetensors":')
    assert not is_complete(path)
    assert newest_complete(tmp_path) is None


def test_the_oldest_go_once_the_new_one_is_complete(tmp_path):
    for step in (8, 9, 10, 11):
        checkpoint(tmp_path, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-11"]


@pytest.mark.parametrize(
    "last_call",
    [
        "pathoflow.training.checkpoints.sha256_of_file",
        "pathoflow.training.checkpoints.sync_tree",
        "pathlib.Path.rename",
        "pathoflow.training.checkpoints.sync_directory",
        "pathoflow.training.checkpoints.write_atomically",
    ],
)
def test_a_kill_between_two_steps_of_a_save_leaves_the_one_before(tmp_path, monkeypatch, last_call):
    good = checkpoint(tmp_path, 1)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(last_call, killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint(tmp_path, 2, keep=1)
    assert newest_complete(tmp_path) == good
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_nothing_to_resume_from(tmp_path):
    assert newest_complete(tmp_path / "none") is None


def test_what_another_run_differs_in_is_named(tmp_path):
    path = checkpoint(tmp_path, 1)
    indifferent = frozenset({"data_workers"})
    config = {"learning_rate": 1e-5, "data_workers": 8}
    assert differences(path, ORIGIN | {"config": config}, indifferent) == []
    (found,) = differences(path, ORIGIN | {"config": config | {"learning_rate": 0.1}}, indifferent)
    assert str(found) == "the configuration's learning_rate was 1e-05 there and is 0.1 here"
    (found,) = differences(path, ORIGIN | {"inputs": {"corpus": "sha256:cd"}}, indifferent)
    assert str(found) == "the input corpus was 'sha256:ab' there and is 'sha256:cd' here"
    (found,) = differences(path, {"code": {"digest": "sha256:ef"}}, indifferent)
    assert str(found) == "the code's digest was None there and is 'sha256:ef' here"
