"""The stage through torchrun: trained, killed, preempted, resumed to the same weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration as StockModel

from components.training.cpt.config import CptConfig
from components.training.cpt.stage import run
from pathoflow.errors import InputError, Preempted, StageError
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.pretrained import load_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.weight_files import tensors_in
from pathoflow.training.curves import read_series
from tests.support.base_models import build_base_model
from tests.support.conversations import write_colour_corpus, write_reasoning
from tests.support.pairs import contents, new_output, pair, write_corpus
from tests.support.published import publish

VALUES = {
    "max_pixels": 784,
    "freeze_vision_tower": False,
    "max_length_tokens": 200,
    "lookup_weight": 5.0,
    "learning_rate": 3e-3,
    "batch_size_per_process": 4,
    "epochs": 20.0,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_every_steps": 40,
    # A mean over several steps would begin anew after a restart.
    "log_every_steps": 1,
}

# Stands in for the process that runs a stage: a preempted one exits with 75.
PROGRAM = """
import json, shutil, signal, sys
from pathlib import Path
from components.training.cpt.config import CptConfig
from components.training.cpt.stage import run
from pathoflow.errors import PathoflowError, Preempted
from tests.support.pairs import new_output

def stop(*_):
    raise Preempted("asked to stop")

signal.signal(signal.SIGTERM, stop)
where, cut, values = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
# As the runner of stages does: each attempt begins with an empty output and the scratch of the one before.
shutil.rmtree(cut / "output", ignore_errors=True)
try:
    run(CptConfig(**values), corpus=where / "corpus", base_model=where / "base_model" / "output", out=new_output(cut))
except PathoflowError as error:
    sys.exit(error.exit_code)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("cpt")
    broken = pair("broken", "A black lesion.") | {"image": {"bytes": b"no image", "path": "broken.jpg"}}
    marked = pair("marked", "A <|image_pad|> lesion.")
    faulty = [broken, marked, pair("silent", " "), pair("endless", "word " * 300)]
    write_colour_corpus(where / "corpus", faulty=faulty)
    build_base_model(where, where / "corpus", write_reasoning(where / "reasoning"), num_lookups=400)
    return where


@pytest.fixture(scope="module")
def finished(data):
    """The output of a run that nothing interrupted."""
    out = new_output(data / "whole")
    run(CptConfig(**VALUES), corpus=data / "corpus", base_model=data / "base_model" / "output", out=out)
    return out


def start(data: Path, cut: Path, values: dict[str, object]) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[4])
    environment = os.environ | {"PYTHONPATH": root}
    command = [sys.executable, "-c", PROGRAM, str(data), str(cut), json.dumps(values)]
    return subprocess.Popen(command, env=environment, cwd=root)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, f"the stage ended with {process.returncode} before there was {path.name}"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers(cut: Path) -> list[psutil.Process]:
    job = str(cut / "scratch" / "job.json")
    return [process for process in psutil.process_iter(["cmdline"]) if job in (process.info["cmdline"] or [])]


def test_base_and_trained_model_are_written_and_learned(finished):
    base, model = finished.path / "base", finished.path / "model"
    assert load_processor(model).image_processor.size["longest_edge"] == 784
    loaded, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(model))
    assert loaded.num_parameters() == finished.metrics["num_parameters"]
    assert (base / "model.safetensors").read_bytes() != (model / "model.safetensors").read_bytes()
    losses = list(read_series(finished.directory)["loss"].values())
    assert sum(losses[-10:]) < sum(losses[:10]) / 3


def test_unusable_pairs_are_quarantined(finished):
    assert (finished.num_in, finished.num_out) == (28, 24)
    assert finished.quarantined == {"not_an_image": 1, "special_token": 1, "no_caption": 1, "too_long": 1}
    assert "max_length_tokens" in (finished.path / "quarantine.jsonl").read_text()


def test_the_first_samples_are_shown_with_what_is_learned(finished):
    page = (finished.path / "plots" / "samples" / "step_0000001.html").read_text()
    assert page.count("<tr>") == 4
    assert '<mark class=heavy title="weight 5">' in page


def interrupt(data: Path, cut: Path, values: dict[str, object]) -> None:
    """Runs the stage to its end through a kill, what a kill in a save leaves behind, and a stop."""
    checkpoints = cut / "scratch" / "checkpoints"
    killed = start(data, cut, values)
    wait_for(checkpoints / "checkpoint-40" / "complete.json", killed)
    killed.kill()
    killed.wait()
    _, alive = psutil.wait_procs(workers(cut), timeout=10)
    assert not alive, "workers outlived the stage"
    # What a kill in the middle of a save leaves behind: the highest number, and half of its files.
    (checkpoints / "checkpoint-999").mkdir()
    (checkpoints / "checkpoint-999" / "model.safetensors").write_bytes(b"half")

    preempted = start(data, cut, values)
    wait_for(checkpoints / "checkpoint-80" / "complete.json", preempted)
    preempted.send_signal(signal.SIGTERM)
    assert preempted.wait(timeout=60) == Preempted.exit_code
    assert not workers(cut)
    assert not (checkpoints / "checkpoint-999").exists()

    assert start(data, cut, values).wait(timeout=120) == 0


def test_killed_and_preempted_runs_resume_to_the_same_weights(data, finished, tmp_path):
    interrupt(data, tmp_path, VALUES)
    assert contents(tmp_path / "output") == contents(finished.path)
    resumed = read_series(tmp_path / "scratch" / "report")["loss"]
    assert resumed == read_series(finished.directory)["loss"]


@pytest.mark.slow
def test_so_do_two_processes_with_data_workers_that_save_in_the_background(data, tmp_path):
    values = VALUES | {"num_processes": 2, "batch_size_per_process": 2, "data_workers": 1}
    out = new_output(tmp_path / "whole")
    run(CptConfig(**values), corpus=data / "corpus", base_model=data / "base_model" / "output", out=out)
    interrupt(data, tmp_path / "cut", values | {"background_checkpoints": True})
    assert contents(tmp_path / "cut" / "output") == contents(out.path)
    assert read_series(tmp_path / "cut" / "scratch" / "report")["loss"] == read_series(out.directory)["loss"]


def test_a_corpus_without_a_usable_pair_is_an_input_error(tmp_path, data):
    write_corpus(tmp_path / "corpus")
    with pytest.raises(InputError, match="no pair that can be used"):
        run(
            CptConfig(**VALUES),
            corpus=tmp_path / "corpus",
            base_model=data / "base_model" / "output",
            out=new_output(tmp_path),
        )


def test_a_failing_worker_is_told_with_its_last_words(tmp_path, data):
    values = VALUES | {"model": str(data / "corpus")}
    with pytest.raises(StageError, match="processor can be loaded from"):
        run(CptConfig(**values), corpus=data / "corpus", out=new_output(tmp_path))


@pytest.fixture(scope="module")
def hub(finished, tmp_path_factory) -> Path:
    """The trained model as it would lie on the hub: old names, bfloat16, shards, its maker's sampling settings."""
    directory = tmp_path_factory.mktemp("hub")
    model, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(finished.path / "model"))
    publish(model, directory, num_shards=2)
    load_processor(finished.path / "model").save_pretrained(directory)
    return directory


# Too little to move a float32 weight.
ONE_STEP = VALUES | {"max_steps": 1, "learning_rate": 1e-13, "warmup_ratio": 0.0}


def test_a_model_of_the_hubs_shape_starts_with_the_stock_loaders_weights(data, hub, tmp_path):
    out = new_output(tmp_path)
    config = CptConfig(**ONE_STEP | {"model": str(hub)})
    run(config, corpus=data / "corpus", out=out)
    reference = StockModel.from_pretrained(hub, dtype=torch.float32).state_dict()
    trained = StockModel.from_pretrained(out.path / "model").state_dict()
    assert reference.keys() == trained.keys()
    for name, tensor in reference.items():
        assert torch.equal(trained[name], tensor), name
    assert {file.name: file.read_bytes() for file in hub.glob("model*")} == {
        file.name: file.read_bytes() for file in (out.path / "base").glob("model*")
    }
    curves = read_series(out.directory)
    assert curves["initial_loss"] == {0: pytest.approx(curves["loss"][1], rel=1e-4)}
    assert out.metrics["initial_loss"] == curves["initial_loss"][0] < 2
    assert re.match(r"32 tensors, \d+ bytes, float32, xxh3-128:[0-9a-f]{32}$", out.notes["loaded_weights"])


def test_a_model_that_lacks_a_tensor_is_refused_by_name(data, hub, tmp_path):
    lacking = Path(shutil.copytree(hub, tmp_path / "lacking"))
    name = "model.layers.0.self_attn.q_proj.weight"
    file = tensors_in(lacking)[name].file
    tensors = load_file(file)
    tensors.pop(name)
    save_file(tensors, file, {"format": "pt"})
    config = CptConfig(**ONE_STEP | {"model": str(lacking)})
    with pytest.raises(StageError, match=r"lists model.layers.0.self_attn.q_proj.weight, which no file holds"):
        run(config, corpus=data / "corpus", out=new_output(tmp_path))


def test_a_model_that_knows_nothing_is_refused_before_the_first_step(data, finished, hub, tmp_path):
    """All of its tensors are there and have their shapes; their values are noise."""
    noise = Path(shutil.copytree(hub, tmp_path / "noise"))
    model, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(finished.path / "base"))
    publish(model, noise, num_shards=2)
    values = ONE_STEP | {"model": str(noise)}
    out = new_output(tmp_path / "refused")
    with pytest.raises(StageError, match=r"the model that should be trained on knows next to nothing"):
        run(CptConfig(**values), corpus=data / "corpus", out=out)
    assert not (out.path / "model").exists()
    allowed = new_output(tmp_path / "allowed")
    config = CptConfig(**values | {"max_initial_loss_share": None})
    run(config, corpus=data / "corpus", out=allowed)
    assert allowed.metrics["initial_loss"] > 5
