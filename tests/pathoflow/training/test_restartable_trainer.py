"""An interrupted training goes on exactly as if it had not been: in one process, bit by bit."""

from __future__ import annotations

import hashlib
import json
import time

import pytest
import safetensors.torch
import torch
from transformers import PrinterCallback

from pathoflow.contract.output import StageOutput
from pathoflow.errors import StageError
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.system.files import sha256_of_file
from pathoflow.training import restartable_trainer
from pathoflow.training.checkpoints import MARKER, PREFIX, newest_complete, staging_of
from pathoflow.training.curves import read_series
from pathoflow.training.job import Job
from pathoflow.training.preemptible import train_preemptibly
from pathoflow.training.restartable_trainer import distinct_tensors, load_distinct_tensors
from pathoflow.training.supervision import prepare
from tests.support.conversations import TINY_SHAPE
from tests.support.toy_training.config import ToyTrainingConfig
from tests.support.toy_training.worker import toy_trainer


def new_job(where, config) -> Job:
    return prepare(Job.create(config, {}, StageOutput(where / "output", where / "scratch")), config)


def train(where, **values):
    """One attempt at the toy training; what it trained, and its digest."""
    config = ToyTrainingConfig(**{"max_steps": 14, "log_every_steps": 3, **values})
    job = new_job(where, config)
    trainer = toy_trainer(config, job.checkpoints)
    train_preemptibly(trainer, config, job, {"loss": "loss", "grad_norm": "grad_norm"})
    return trainer, hashlib.sha256(safetensors.torch.save(distinct_tensors(trainer.model))).hexdigest()


def curves(where):
    series = read_series(where / "scratch" / "report")
    return {name: series[name] for name in ("loss", "grad_norm")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    where = tmp_path_factory.mktemp("whole")
    return train(where)[1], curves(where)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("step", [7, 13])
def test_losses_and_weights_are_those_of_an_uninterrupted_run(tmp_path, whole, step, background):
    # The checkpoints of steps 5 and 10 lie between points of the curve, in the second epoch and in the third.
    with pytest.raises(RuntimeError, match="the toy broke"):
        train(tmp_path, fails_at=step, background_checkpoints=background)
    job = tmp_path / "scratch"
    saved = job / "checkpoints" / f"{PREFIX}{step // 5 * 5}"
    while background and not (saved / MARKER).exists():
        # A process of its own would have ended with its exception; here the thread writes on.
        time.sleep(0.01)
    assert newest_complete(job / "checkpoints") == saved
    origin = json.loads((saved / "origin.json").read_text())
    origin["config"] |= {"fails_at": 0, "background_checkpoints": False}
    (job / "checkpoints").rename(tmp_path / "kept")
    # A configuration of its own, as a repaired run has it: it may not fail any more.
    relabel(tmp_path / "kept" / saved.name, origin)
    trainer, digest = train(tmp_path, resume_from=str(tmp_path / "kept" / saved.name))
    assert (digest, curves(tmp_path)) == whole
    assert trainer.state.global_step == 14


def relabel(checkpoint, origin) -> None:
    (checkpoint / "origin.json").write_text(json.dumps(origin))
    digests = json.loads((checkpoint / "complete.json").read_text())
    digests["origin.json"] = sha256_of_file(checkpoint / "origin.json")
    (checkpoint / "complete.json").write_text(json.dumps(digests))


def test_a_finished_training_is_not_trained_on(tmp_path, whole):
    _, digest = train(tmp_path)
    again, same = train(tmp_path)
    assert same == digest == whole[0]
    assert again.state.global_step == 14
    assert curves(tmp_path) == whole[1]


def test_only_so_many_checkpoints_are_kept(tmp_path):
    train(tmp_path, kept_checkpoints=2, save_every_steps=2)
    checkpoints = tmp_path / "scratch" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == [f"{PREFIX}12", f"{PREFIX}14"]


def test_a_background_write_that_fails_fails_the_training(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathoflow.training.restartable_trainer._write_part", full)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path, background_checkpoints=True)
    assert newest_complete(tmp_path / "scratch" / "checkpoints") is None


def test_what_is_written_in_the_background_is_what_was_copied(tmp_path, monkeypatch):
    # With a write that waits until training has gone on, references in the place of copies would show.
    usual = restartable_trainer._write_part

    def slow(path, part):
        time.sleep(0.2)
        usual(path, part)

    train(tmp_path / "quick", save_every_steps=14)
    train(tmp_path / "at_once", save_every_steps=4)
    monkeypatch.setattr(restartable_trainer, "_write_part", slow)
    train(tmp_path / "late", save_every_steps=4, background_checkpoints=True)
    for step in (12, 14):
        at_once, late = (
            tmp_path / name / "scratch" / "checkpoints" / f"{PREFIX}{step}" / "weights.safetensors"
            for name in ("at_once", "late")
        )
        assert at_once.read_bytes() == late.read_bytes()


def test_a_copy_for_the_background_holds_tied_weights_once():
    tied, other = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3, bias=False)
    other.weight = tied.weight
    copied = restartable_trainer._detached({"first": tied.state_dict(), "second": other.state_dict()})
    assert copied["first"]["weight"] is copied["second"]["weight"]
    assert copied["first"]["weight"].data_ptr() != tied.weight.data_ptr()
    assert torch.equal(copied["first"]["weight"], tied.weight)
    assert torch.equal(copied["first"]["bias"], tied.bias)


def test_lost_weights_stop_the_training_before_they_are_saved(tmp_path):
    with pytest.raises(StageError, match="Lower learning_rate"):
        train(tmp_path, poison_at=6, log_every_steps=20)
    assert newest_complete(tmp_path / "scratch" / "checkpoints").name == f"{PREFIX}5"


def test_the_weights_of_qwen_are_put_back_under_their_names_in_memory(tmp_path):
    # transformers' own Trainer (5.23) writes them under their names on the hub and would not find them again.
    tokenizer = train_tokenizer(["A yellow lesion: lipoma."] * 4, 340)
    new_processor(tokenizer, max_pixels=784)
    trained, fresh = (build_tiny_model(TinyShape.model_validate(TINY_SHAPE), tokenizer, seed) for seed in (1, 2))
    saved = safetensors.torch.load(safetensors.torch.save(distinct_tensors(trained)))
    assert "lm_head.weight" not in saved or "model.language_model.embed_tokens.weight" not in saved
    config = ToyTrainingConfig(max_steps=1)
    trainer = toy_trainer(config, tmp_path, fresh)
    checkpoint = staging_of(tmp_path, 1)
    checkpoint.mkdir()
    safetensors.torch.save_file(saved, checkpoint / "weights.safetensors")
    trainer.remove_callback(PrinterCallback)
    trainer._load_from_checkpoint(str(checkpoint))
    for (name, weight), (_, restored) in zip(trained.named_parameters(), fresh.named_parameters(), strict=True):
        assert torch.equal(weight, restored), name


def test_weights_of_another_model_are_refused():
    with pytest.raises(ValueError, match="not this model's"):
        load_distinct_tensors(torch.nn.Linear(2, 2), {"weight": torch.zeros(2, 2)})
