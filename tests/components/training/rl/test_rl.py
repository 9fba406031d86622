"""A tiny model learns from rewards; runs can be stopped, resumed and repeated to the byte."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2_5_VLForConditionalGeneration

from components.training.rl.config import RlConfig
from components.training.rl.stage import run
from components.training.rl.worker import grpo_arguments
from pathoflow.contract.output import StageOutput
from pathoflow.data.image_io import encode_jpeg
from pathoflow.data.schemas import MCQ, ShardWriter
from pathoflow.errors import InputError
from pathoflow.modeling.encoding import Encoder
from pathoflow.modeling.encoding import conversation as sample_of
from pathoflow.modeling.pretrained import load_processor, save_model
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.qa.prompts import mcq_text
from pathoflow.training.history import best
from pathoflow.training.prometheus import FIGURES
from tests.support.conversations import COLOURS, TINY_SHAPE, conversation, patch
from tests.support.pairs import picture

VALUES = {
    "beta": 0.0,
    "num_generations": 4,
    "prompts_per_step": 8,
    "batch_size_per_process": 16,
    "gradient_accumulation_steps": 2,
    "max_steps": 14,
    "learning_rate": 0.01,
    "freeze_vision_tower": False,
    "prompt_style": "short",
    "max_completion_tokens": 24,
    "overlong_cache_tokens": 4,
    "max_pixels": 784,
    "eval_every_steps": 7,
    "save_every_steps": 5,
    "bf16": False,
    "gradient_checkpointing": False,
    "checkpoint_grace_s": 60,
}

RUN = """
import json, signal, sys
from pathlib import Path
from components.training.rl.config import RlConfig
from components.training.rl.stage import run
from pathoflow.errors import Preempted
from pathoflow.contract.output import StageOutput
from pathoflow.training.prometheus import FIGURES

values, mcqs, sft, out = json.loads(sys.argv[1]), *map(Path, sys.argv[2:])
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    run(RlConfig(**values), diagnosis_mcqs=mcqs, sft=sft, out=StageOutput(out / "out", out / "scratch"))
except (Preempted, KeyboardInterrupt):
    sys.exit(75)
"""


def question(number: int, answer: str = "A", image: bytes | None = None) -> dict[str, object]:
    """A question whose right answer is in the first place, whatever is seen."""
    options = random.Random(number).sample(sorted(COLOURS), len(COLOURS))
    return {
        "mcq_id": f"question_{number}",
        "prompt": mcq_text(options, "short"),
        "images": [{"bytes": encode_jpeg(patch(options[0])) if image is None else image, "path": f"{number}.jpg"}],
        "options": options,
        "answer": answer,
        "diagnosis": options[0],
    }


def write_questions(directory: Path, train: list[dict[str, object]], dev: list[dict[str, object]]) -> Path:
    for part, rows in (("train", train), ("dev", dev)):
        with ShardWriter(directory / part, MCQ) as writer:
            for row in rows:
                writer.write(row)
    return directory


@pytest.fixture(scope="module")
def mcqs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corrupt = encode_jpeg(picture(1))[:-200]
    bad = [question(90, answer="E"), question(91, image=corrupt)]
    train = [question(number) for number in range(24)]
    return write_questions(
        tmp_path_factory.mktemp("mcqs"), [*train, *bad], [question(number) for number in range(30, 46)]
    )


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes responses in the format, with letters at random."""
    torch.manual_seed(0)
    rows = [conversation(number, random.Random(number)) for number in range(64)]
    texts = [part["text"] for row in rows for turn in row["messages"] for part in turn["content"] if part["text"]]
    tokenizer = train_tokenizer(texts, TINY_SHAPE["vocabulary_size"])
    processor = new_processor(tokenizer, max_pixels=784)
    model = build_tiny_model(TinyShape(**TINY_SHAPE), tokenizer, seed=0)
    encoder = Encoder(processor)
    encoded = [
        encoder.encode(sample_of(row["messages"], [image["bytes"] for image in row["images"]], processor))
        for row in rows
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(150):
        batch = encoder.batch([encoded[(step * 16 + place) % 64] for place in range(16)])
        del batch["weights"]
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    directory = tmp_path_factory.mktemp("sft")
    save_model(model, processor, directory / "model")
    return directory


def start(out: Path, mcqs: Path, sft: Path, **values: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, json.dumps(VALUES | values), str(mcqs), str(sft), str(out)])


def series(out: Path) -> Iterator[tuple[int, dict[str, float]]]:
    for line in (out / "scratch" / "report" / "series.jsonl").read_text().splitlines():
        point = json.loads(line)
        yield point["step"], point["values"]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, mcqs: Path, sft: Path) -> tuple[Path, StageOutput]:
    directory = tmp_path_factory.mktemp("finished")
    out = StageOutput(directory / "out", directory / "scratch")
    run(RlConfig(**VALUES), diagnosis_mcqs=mcqs, sft=sft, out=out)
    return directory, out


def test_the_model_learns_what_is_rewarded(finished):
    _, out = finished
    assert out.metrics["dev_accuracy"] > out.metrics["dev_accuracy_before"] + 0.2
    assert out.metrics["reward_end"] > out.metrics["reward_start"] + 0.2
    assert out.notes["selected_on"] == "dev split"


def test_bad_questions_are_set_aside(finished):
    _, out = finished
    assert (out.num_in, out.num_out) == (42, 40)
    assert dict(out.quarantined) == {"bad_answer": 1, "corrupt_image": 1}


def test_the_model_knows_the_letters_before_the_first_step(finished):
    _, out = finished
    # Of the letter and the end of the response it is torn between four letters alone.
    assert 0.2 < out.metrics["initial_loss"] < 1.5
    assert "float32, xxh3-128:" in out.notes["loaded_weights"]


def test_every_part_of_the_reward_is_reported(finished):
    directory, _ = finished
    points = list(series(directory))
    steps = {step: values for step, values in points if "reward" in values}
    assert sorted(steps) == list(range(1, 15))
    for values in steps.values():
        assert values["reward"] <= min(values["format_reward"], values["accuracy_reward"])
        assert values["length_reward"] == pytest.approx(1 + values["overlong_penalty"])
        assert 1 <= values["response_length_tokens"] <= 24
        assert {"zero_variance_share", "think_answer_consistency", "clip_fraction"} <= values.keys()
    assert {name for _, values in points for name in values} <= FIGURES.keys(), "Prometheus is told of all of them"
    assert [step for step, values in points if "dev_accuracy" in values] == [0, 7, 14]
    assert json.loads((directory / "scratch" / "report" / "progress.json").read_text())["done"] == 14


def test_the_best_model_on_dev_is_written_as_sft_wrote_its_own(finished, sft):
    directory, out = finished
    model = directory / "out" / "model"
    assert {path.name for path in model.iterdir()} == {path.name for path in (sft / "model").iterdir()}
    assert json.loads((model / "config.json").read_text())["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    Qwen2_5_VLForConditionalGeneration.from_pretrained(model)
    assert load_processor(model).tokenizer.chat_template
    assert {path.name for path in (out.path / "plots").iterdir()} == {"rewards.png", "dev_accuracy.png"}
    history = json.loads((directory / "scratch" / "history.json").read_text())
    assert best(history)["step"] == out.metrics["best_step"]


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_dev_questions_that_processes_cannot_share_evenly_are_answered_where_weights_are_spread(tmp_path, sft):
    """Process 0 has 5 of 9 questions and answers them in two batches; process 1 has 4."""
    parts = [[question(number) for number in numbers] for numbers in (range(8), range(30, 39))]
    uneven = write_questions(tmp_path / "mcqs", *parts)
    sizes = {"prompts_per_step": 4, "batch_size_per_process": 4, "max_steps": 1, "eval_every_steps": 1}
    values = VALUES | sizes | {"num_processes": 2, "deepspeed_stage": 3, "eval_batch_size": 4}
    out = StageOutput(tmp_path / "out", tmp_path / "scratch")
    run(RlConfig(**values), diagnosis_mcqs=uneven, sft=sft, out=out)
    measured = [values["dev_accuracy"] for _, values in series(tmp_path) if "dev_accuracy" in values]
    assert len(measured) == 2
    assert all((accuracy * 9) % 1 == pytest.approx(0, abs=1e-9) for accuracy in measured)


@pytest.mark.races
def test_a_run_that_is_stopped_and_resumed_ends_the_same_to_the_byte(finished, tmp_path, mcqs, sft):
    child = start(tmp_path, mcqs, sft)
    while not (tmp_path / "scratch" / "report" / "series.jsonl").exists() or max(s for s, _ in series(tmp_path)) < 2:
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=100) == 75
    stopped_at = max(step for step, _ in series(tmp_path))
    assert 2 <= stopped_at < 14
    assert (tmp_path / "scratch" / "checkpoints" / f"checkpoint-{stopped_at}" / "complete.json").exists()
    # What a kill in the middle of a later checkpoint would leave.
    (tmp_path / "scratch" / "checkpoints" / "checkpoint-13").mkdir()
    (tmp_path / "out" / "quarantine.jsonl").unlink()
    # Who prepares the questions does not matter.
    assert start(tmp_path, mcqs, sft, data_workers=1).wait(timeout=200) == 0
    assert min(step for step, _ in list(series(tmp_path))[-1:]) == 14
    assert contents(tmp_path / "out") == contents(finished[0] / "out")


def test_without_a_usable_question_nothing_is_started(tmp_path, sft):
    mcqs = write_questions(tmp_path / "mcqs", [question(1, answer="F")], [question(2)])
    with pytest.raises(InputError, match="None of the 1 questions in diagnosis_mcqs/train"):
        run(RlConfig(**VALUES), diagnosis_mcqs=mcqs, sft=sft, out=StageOutput(tmp_path / "out", tmp_path / "scratch"))


def test_the_objective_is_the_recipes(tmp_path):
    def arguments(**values):
        return grpo_arguments(RlConfig(**VALUES | values), tmp_path, max_steps=5)

    grpo = arguments(beta=0.02)
    assert (grpo.loss_type, grpo.beta, grpo.epsilon, grpo.epsilon_high) == ("grpo", 0.02, 0.2, None)
    dapo = arguments(algorithm="dapo", epsilon_high=0.28, steps_per_generation=5)
    assert (dapo.loss_type, dapo.beta, dapo.epsilon, dapo.epsilon_high) == ("dapo", 0.0, 0.2, 0.28)
    assert (dapo.steps_per_generation, dapo.generation_batch_size) == (10, 160)


@pytest.mark.slow
def test_dapo_and_a_kl_term_train_in_two_processes(tmp_path, mcqs, sft):
    shared = {"num_processes": 2, "gradient_accumulation_steps": 1, "max_steps": 2, "eval_every_steps": 2}
    for name, values in (("kl", {"beta": 0.05}), ("dapo", {"algorithm": "dapo", "epsilon_high": 0.28})):
        out = StageOutput(tmp_path / name / "out", tmp_path / name / "scratch")
        run(RlConfig(**VALUES | shared | values), diagnosis_mcqs=mcqs, sft=sft, out=out)
        points = dict(series(tmp_path / name))
        assert ("kl" in points[2]) == (name == "kl")
        assert out.notes.get("dynamic_sampling", "").startswith("none") == (name == "dapo")
        assert out.metrics["dev_accuracy"] >= out.metrics["dev_accuracy_before"]


ADAPTERS = {
    "beta": 0.05,
    "lora_rank": 4,
    "lora_alpha": 8,
    "freeze_vision_tower": True,
    "freeze_merger": True,
    "gradient_checkpointing": True,
    "max_steps": 6,
    "eval_every_steps": 3,
    "save_every_steps": 3,
    "kept_checkpoints": 9,
}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, mcqs: Path, sft: Path) -> tuple[Path, StageOutput]:
    directory = tmp_path_factory.mktemp("adapted")
    out = StageOutput(directory / "out", directory / "scratch")
    run(RlConfig(**VALUES | ADAPTERS), diagnosis_mcqs=mcqs, sft=sft, out=out)
    return directory, out


def weights_of(model: Path) -> dict[str, torch.Tensor]:
    """By their names in memory, tied ones once."""
    loaded, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(model, output_loading_info=True)
    assert not any(report.values())
    return {name: weight.detach() for name, weight in loaded.named_parameters()}


def merged_by_hand(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The plain model's weights from a checkpoint's: W + lora_alpha / lora_rank · B A."""
    found, halves = {}, defaultdict(dict)
    for name, tensor in load_file(checkpoint / "weights.safetensors").items():
        layer, is_half, half = name.removeprefix("base_model.model.").partition(".lora_")
        if is_half:
            halves[f"{layer}.weight"][half[0]] = tensor
        else:
            found[layer.replace(".base_layer", "")] = tensor
    assert halves
    for name, half in halves.items():
        found[name] = found[name] + (half["B"] @ half["A"]) * (ADAPTERS["lora_alpha"] / ADAPTERS["lora_rank"])
    return found


def test_adapters_learn_and_what_is_kept_is_the_start_plus_their_product(adapted, sft):
    directory, out = adapted
    assert out.metrics["dev_accuracy"] > out.metrics["dev_accuracy_before"]
    start_model = weights_of(sft / "model")
    changes = []
    for step in (3, 6):
        saved = load_file(directory / "scratch" / "checkpoints" / f"checkpoint-{step}" / "weights.safetensors")
        assert not any(".ref." in name for name in saved), "a second set of adapters is the reference"
        by_hand = merged_by_hand(directory / "scratch" / "checkpoints" / f"checkpoint-{step}")
        assert by_hand.keys() == start_model.keys()
        changed = {name for name in by_hand if not torch.equal(by_hand[name], start_model[name])}
        assert changed
        assert all("language_model" in name and "_proj.weight" in name for name in changed)
        # Not the adapters alone: the reference after a restart comes from here, too.
        plain = {name.replace(".base_layer", "").removeprefix("base_model.model."): saved[name] for name in saved}
        assert all(torch.equal(plain[name], tensor) for name, tensor in start_model.items())
        changes.append(by_hand)
    best_step = int(out.metrics["best_step"])
    exported = weights_of(directory / "out" / "model")
    assert exported.keys() == start_model.keys()
    for name, tensor in changes[best_step // 3 - 1].items():
        assert torch.equal(exported[name], tensor), name


def test_the_reference_of_adapters_is_the_model_that_training_starts_from(adapted):
    divergences = [values["kl"] for _, values in series(adapted[0]) if "kl" in values]
    assert len(divergences) == 6
    assert abs(divergences[0]) < 1e-6, "before the first step nothing has been learned"
    assert divergences[-1] > 1e-3


def test_adapters_go_on_after_a_kill_as_if_nothing_had_happened(adapted, tmp_path, mcqs, sft):
    where = shutil.copytree(adapted[0], tmp_path / "run")
    before = list(series(where))
    shutil.rmtree(where / "out")
    (where / "scratch" / "checkpoints" / "checkpoint-6" / "complete.json").unlink()
    out = StageOutput(where / "out", where / "scratch")
    run(RlConfig(**VALUES | ADAPTERS), diagnosis_mcqs=mcqs, sft=sft, out=out)
    assert contents(where / "out") == contents(adapted[0] / "out")
    for (step, values), (same_step, again) in zip(before, series(where), strict=True):
        assert step == same_step
        assert [values.get(name) for name in ("kl", "loss", "reward")] == [
            again.get(name) for name in ("kl", "loss", "reward")
        ]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
def test_adapters_train_under_zero_2(tmp_path, mcqs, sft):
    shared = {"num_processes": 2, "gradient_accumulation_steps": 1, "max_steps": 3, "deepspeed_stage": 2}
    out = StageOutput(tmp_path / "out", tmp_path / "scratch")
    run(RlConfig(**VALUES | ADAPTERS | shared), diagnosis_mcqs=mcqs, sft=sft, out=out)
    divergences = [values["kl"] for _, values in series(tmp_path) if "kl" in values]
    assert abs(divergences[0]) < 1e-6
    assert divergences[-1] > 1e-4
    start_model = weights_of(sft / "model")
    kept = weights_of(tmp_path / "scratch" / "kept" / "step-3")
    assert kept.keys() == start_model.keys()
    changed = {name for name in kept if not torch.equal(kept[name], start_model[name])}
    assert changed
    assert all("language_model" in name and "_proj.weight" in name for name in changed)
