from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from components.evaluation.vqa_benchmarks.answering import FRAME, Batch, answer
from components.evaluation.vqa_benchmarks.config import Protocols, VqaBenchmarksConfig
from components.evaluation.vqa_benchmarks.evaluations import batches_of
from components.evaluation.vqa_benchmarks.questions import GREY, images
from components.evaluation.vqa_benchmarks.stage import run
from pathoflow.data.image_io import decode, encode_png
from pathoflow.data.schemas import MCQ, PREDICTIONS, ShardWriter
from pathoflow.errors import InputError
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.pretrained import load_processor, save_model
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.qa.prompts import LETTERS, mcq_text, response_text
from pathoflow.qa.question import Question
from tests.support.pairs import contents, new_output, rows_of

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
OPTIONS = ["a wholly red image of one colour", "blue"]
SHAPE = TinyShape(
    vocabulary_size=300, hidden_size=32, num_layers=2, num_heads=2, vision_hidden_size=32, vision_num_heads=2
)
CONFIG = VqaBenchmarksConfig(
    protocols=Protocols(base="letter_likelihood", cpt="letter_likelihood"),
    prompt_style="short",
    max_new_tokens=12,
    batch_size=7,
    num_threads=1,
    precision="float32",
)


def question(number: int) -> Question:
    """A red or blue image, and options of different lengths so that batches need padding."""
    colour = list(COLOURS)[number % 2]
    options = (*OPTIONS, *("green", "a shade of grey")[: number % 3])
    image = Image.new("RGB", (56 + 28 * (number % 2), 56), tuple(part + number % 5 for part in COLOURS[colour]))
    answer = "AB"[number % 2]
    prompt = mcq_text(options, "short")
    return Question(f"q{number}", prompt, (encode_png(image),), options, answer, ("cytology", "FISH")[number // 2 % 2])


QUESTIONS = [question(number) for number in range(20)]


def mcq_row(question: Question, **changes) -> dict:
    return {
        "mcq_id": question.id,
        "prompt": question.prompt,
        "images": [{"bytes": data, "path": f"{question.id}.png"} for data in question.images],
        "options": list(question.options),
        "answer": question.answer,
        "subfield": question.subfield,
    } | changes


def write_mcqs(directory: Path, rows: list[dict]) -> Path:
    with ShardWriter(directory / "heldout", MCQ, prefix="heldout") as writer:
        for row in rows:
            writer.write(row)
    return directory


def pixels(question: Question, *, blank: bool = False) -> list[Image.Image]:
    return [decode(data, max_pixels=10**6) for data in images(question, blank=blank)]


def teach(model, processor, examples: list[tuple[Question, str]], num_steps: int) -> None:
    """Fits a model to the responses, until greedy generation gives them back."""
    texts = [
        processor.apply_chat_template(question.messages("short"), add_generation_prompt=True, tokenize=False)
        + response
        + processor.tokenizer.eos_token
        for question, response in examples
    ]
    pictures = [pixels(question) for question, _ in examples]
    processor.tokenizer.padding_side = "left"
    inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
    labels = inputs["input_ids"].clone()
    for row, (_, response) in enumerate(examples):
        num_response = len(processor.tokenizer.encode(response + processor.tokenizer.eos_token))
        labels[row, :-num_response] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(num_steps):
        optimizer.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        optimizer.step()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """base and cpt are random; sft always answers B; rl has learned to tell red from blue."""
    root = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([q.prompt for q in QUESTIONS] + [FRAME], SHAPE.vocabulary_size)
    taught = {
        "sft": [response_text("", "B")] * len(QUESTIONS),
        "rl": [response_text(("red", "blue")[q.answer == "B"], q.answer) for q in QUESTIONS],
    }
    for seed, place in enumerate(("cpt/base", "cpt/model", "sft/model", "rl/model")):
        # Large random weights write texts that change with every pixel and position.
        shape = SHAPE.model_copy(update={"initializer_range": 0.5}) if place == "cpt/model" else SHAPE
        model, processor = build_tiny_model(shape, tokenizer, seed), new_processor(tokenizer, max_pixels=84 * 56)
        if responses := taught.get(place.split("/")[0]):
            teach(model, processor, list(zip(QUESTIONS, responses, strict=True)), num_steps=60)
        save_model(model, processor, root / place)
    return {name: root / name for name in ("cpt", "sft", "rl")}


@pytest.fixture(scope="module")
def mcqs(tmp_path_factory) -> Path:
    return write_mcqs(tmp_path_factory.mktemp("mcqs"), [mcq_row(q) for q in QUESTIONS])


@pytest.fixture(scope="module")
def finished(models, mcqs, tmp_path_factory):
    out = new_output(tmp_path_factory.mktemp("finished"))
    run(CONFIG, diagnosis_mcqs=mcqs, **models, out=out)
    return out


def test_scores_are_those_of_what_the_models_were_taught(finished):
    metrics = finished.metrics
    assert metrics["accuracy_sft"] == metrics["accuracy_sft_blank"] == 0.5
    assert metrics["accuracy_rl"] == 1.0
    assert metrics["accuracy_rl_blank"] == 0.5, "without the image, red and blue look the same"
    assert metrics["rl_minus_sft"] == 0.5
    assert (metrics["num_only_rl_right"], metrics["num_only_sft_right"]) == (10, 0)
    assert metrics["rl_vs_sft_p"] == pytest.approx(2 / 2**10)
    for model in ("base", "cpt", "sft", "rl", "sft_blank", "rl_blank"):
        assert metrics[f"accuracy_{model}_low"] <= metrics[f"accuracy_{model}"] <= metrics[f"accuracy_{model}_high"]
        assert metrics[f"unreadable_{model}"] == 0.0
    assert metrics["generation_unreadable_base"] > 0.5, "random weights write no answers"
    assert metrics["chance"] == pytest.approx(sum(1 / len(q.options) for q in QUESTIONS) / 20)
    assert metrics["think_answer_consistency_sft"] == 0.0, "it does not think"


def test_every_answer_is_kept_with_how_it_was_had(finished):
    rows = rows_of(finished.path / "predictions")
    assert set(rows[0]) == set(PREDICTIONS.names)
    assert (finished.num_in, finished.num_out) == (20, len(rows)) == (20, 8 * 20)
    rl = [row for row in rows if row["model"] == "rl" and not row["blank_image"]]
    assert [row["item_id"] for row in rl] == [q.id for q in QUESTIONS]
    assert rl[0]["response"] == response_text("red", "A")
    base = {row["prompt_style"] for row in rows if row["model"] == "base"}
    assert base == {"short", "short/letter_likelihood"}
    assert finished.notes == {
        "protocol_base": "letter_likelihood",
        "protocol_cpt": "letter_likelihood",
        "protocol_sft": "generation",
        "protocol_rl": "generation",
    }
    protocol = json.loads((finished.path / "protocol.json").read_text())
    assert protocol["models"]["base"] == "letter_likelihood"
    scores = json.loads((finished.path / "scores.json").read_text())
    assert {name: row["num_items"] for name, row in scores["models"]["rl"]["subfields"].items()} == {
        "FISH": 10,
        "cytology": 10,
    }
    assert {path.name for path in (finished.path / "plots").iterdir()} == {
        "accuracy.png",
        "examples.png",
        "subfields.png",
    }


def test_run_again_in_other_batches_and_processes_gives_the_same_bytes(finished, models, mcqs, tmp_path):
    out = new_output(tmp_path)
    config = CONFIG.model_copy(update={"batch_size": 3, "num_processes": 2})
    run(config, diagnosis_mcqs=mcqs, **models, out=out)
    assert contents(out.path) == contents(finished.path)
    assert out.metrics == finished.metrics


def test_a_restart_keeps_finished_batches(finished, models, mcqs, tmp_path, monkeypatch):
    out = new_output(tmp_path)
    for file in sorted(finished.scratch.glob("*.json"))[:-1]:
        shutil.copy(file, out.scratch)
    asked = []
    monkeypatch.setattr(
        "components.evaluation.vqa_benchmarks.evaluations.answer", lambda batch: asked.append(batch) or answer(batch)
    )
    run(CONFIG, diagnosis_mcqs=mcqs, **models, out=out)
    assert len(asked) == 1
    assert contents(out.path) == contents(finished.path)


@pytest.mark.parametrize("name", ["cpt/model", "rl/model"])
@pytest.mark.parametrize("protocol", ["generation", "letter_likelihood"])
def test_answers_do_not_depend_on_the_batch(models, name, protocol):
    source = str(models["cpt"].parent / name)

    def answers(questions: list[Question]) -> list[str]:
        return answer(Batch(source, "float32", protocol, False, "short", 8, tuple(questions)))

    together = answers(QUESTIONS)
    assert [answers([q])[0] for q in QUESTIONS] == together
    assert len(set(together)) > 1


def test_the_chosen_letter_makes_the_likeliest_response(models):
    source = str(models["cpt"] / "model")
    chosen = answer(Batch(source, "float32", "letter_likelihood", False, "short", 8, tuple(QUESTIONS)))
    processor = load_processor(Path(source))
    model, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(source))
    for q, response in zip(QUESTIONS, chosen, strict=True):
        prompt = processor.apply_chat_template(q.messages("short"), add_generation_prompt=True, tokenize=False)
        likelihoods = {}
        for letter in LETTERS[: len(q.options)]:
            inputs = processor(text=[prompt + FRAME + letter], images=pixels(q), return_tensors="pt")
            with torch.no_grad():
                scores = model(**inputs).logits[0].log_softmax(dim=-1)
            tokens = inputs["input_ids"][0]
            likelihoods[response_text("", letter)] = scores[:-1].gather(1, tokens[1:, None]).sum().item()
        assert response == max(likelihoods, key=likelihoods.__getitem__)


def test_a_checkpoints_sampling_settings_do_not_count(models, tmp_path):
    source = tmp_path / "model"
    shutil.copytree(models["rl"] / "model", source)
    settings = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 3.0, "max_length": 5}
    path = source / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    batch = Batch(str(source), "float32", "generation", False, "short", 12, tuple(QUESTIONS[:4]))
    assert answer(batch) == [response_text(colour, letter) for colour, letter in (("red", "A"), ("blue", "B")) * 2]


def test_blank_images_are_grey_and_as_large():
    [image] = pixels(QUESTIONS[1], blank=True)
    assert image.size == pixels(QUESTIONS[1])[0].size == (84, 56)
    assert image.getcolors() == [(84 * 56, GREY)]


def test_questions_that_cannot_be_asked_are_quarantined(models, tmp_path):
    bad = [
        mcq_row(QUESTIONS[0], mcq_id="none", images=[]),
        mcq_row(QUESTIONS[1], mcq_id="letter", answer="F"),
        mcq_row(QUESTIONS[2], mcq_id="text", images=[{"bytes": b"no image", "path": "x"}]),
    ]
    mcqs = write_mcqs(tmp_path / "mcqs", [*bad, *(mcq_row(q) for q in QUESTIONS[:4])])
    out = new_output(tmp_path)
    run(CONFIG, diagnosis_mcqs=mcqs, **models, out=out)
    assert dict(out.quarantined) == {"no_image": 1, "bad_answer": 1, "not_an_image": 1}
    assert (out.num_in, out.metrics["num_items"], out.metrics["accuracy_rl"]) == (7, 4, 1.0)


def test_at_most_max_items_are_asked(models, mcqs, tmp_path):
    out = new_output(tmp_path)
    config = CONFIG.model_copy(update={"max_items": 5, "generate_for_all": False})
    run(config, diagnosis_mcqs=mcqs, **models, out=out)
    assert out.num_in == 5
    assert "generation_accuracy_cpt" not in out.metrics


def test_without_questions_or_models_the_user_is_told(models, mcqs, tmp_path):
    with pytest.raises(InputError, match="num_heldout"):
        run(CONFIG, diagnosis_mcqs=write_mcqs(tmp_path, []), **models, out=new_output(tmp_path / "a"))
    with pytest.raises(InputError, match="nowhere"):
        run(CONFIG, diagnosis_mcqs=mcqs, **(models | {"rl": tmp_path / "nowhere"}), out=new_output(tmp_path / "b"))


def test_batches_hold_each_question_once_longest_first():
    batches = batches_of(QUESTIONS, 6)
    assert sorted(place for batch in batches for place in batch) == list(range(20))
    lengths = [len(QUESTIONS[place].prompt) for batch in batches for place in batch]
    assert lengths == sorted(lengths, reverse=True)
