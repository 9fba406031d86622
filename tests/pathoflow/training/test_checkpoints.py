"""Only a checkpoint that is whole, byte for byte, is resumed from."""

from __future__ import annotations

import pytest

from pathoflow.training.checkpoints import MARKER, is_complete, mark_complete, newest_complete


def checkpoint(directory, step, *, complete=True):
    path = directory / f"checkpoint-{step}"
    (path / "global_step").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights" * step)
    (path / "global_step" / "state.pt").write_bytes(b"state")
    if complete:
        mark_complete(path)
    return path


def test_the_newest_complete_one_is_found_and_half_written_ones_are_deleted(tmp_path):
    old = checkpoint(tmp_path, 9)
    good = checkpoint(tmp_path, 10)
    half = checkpoint(tmp_path, 11, complete=False)
    assert newest_complete(tmp_path) == good
    assert not half.exists()
    assert old.exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "extra", "marker"])
def test_damage_makes_a_checkpoint_incomplete(tmp_path, damage):
    path = checkpoint(tmp_path, 3)
    assert is_complete(path)
    weights = path / "model.safetensors"
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
        (path / MARKER).write_text('{"model.safetensors":')
    assert not is_complete(path)
    assert newest_complete(tmp_path) is None


def test_nothing_to_resume_from(tmp_path):
    assert newest_complete(tmp_path / "none") is None
