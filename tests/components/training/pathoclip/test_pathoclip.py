from __future__ import annotations

import math
import urllib.request
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from transformers import AutoTokenizer, CLIPModel, CLIPProcessor

from components.training.pathoclip.config import PathoclipConfig, TinyClip
from components.training.pathoclip.contrastive import CHECKPOINT, MAX_LOGIT_SCALE, contrastive_loss, learning_rate_share
from components.training.pathoclip.examples import batch_of, load_examples, normalised, random_crops
from components.training.pathoclip.model import load
from components.training.pathoclip.retrieval import chance_at_1, ranks
from components.training.pathoclip.stage import run
from pathoflow.contract.output import Reporter
from pathoflow.errors import InputError
from pathoflow.training.curves import read_series
from pathoflow.training.prometheus import PORT
from tests.support.pairs import contents, new_output, pair, write_corpus
from tests.support.s3_server import free_port

COLOURS = {"red": (210, 40, 40), "green": (40, 160, 60), "blue": (40, 60, 200), "yellow": (230, 210, 50)}
TINY = TinyClip(
    image_size_px=28,
    patch_size_px=7,
    vision_width=32,
    vision_depth=2,
    text_width=32,
    text_depth=1,
    embedding_size=32,
    vocabulary_size=600,
    max_length_tokens=16,
)
CONFIG = PathoclipConfig(
    model="tiny",
    tiny=TINY,
    num_steps=200,
    batch_size=32,
    learning_rate=3e-3,
    warmup_steps=5,
    weight_decay=0.01,
    min_crop_share=0.95,
    checkpoint_every_steps=20,
    num_threads=1,
)


def spots(num: int, seed: int, source: str):
    """Pairs that show a spot of a colour on one side."""
    rng = np.random.default_rng(seed)
    for number in range(num):
        colour, side = list(COLOURS)[number % 4], ("left", "right")[number // 4 % 2]
        image = Image.fromarray(rng.integers(180, 256, (40, 40, 3), dtype=np.uint8))
        x = (4 if side == "left" else 24) + int(rng.integers(-3, 4))
        image.paste(COLOURS[colour], (x, 12 + int(rng.integers(-6, 7)), x + 12, 28))
        yield pair(f"s{number}", f"A {colour} spot at the {side}.", image, source=source)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    directory = tmp_path_factory.mktemp("corpus")
    return write_corpus(directory, train=spots(96, 0, "quilt_1m/train"), heldout=spots(40, 1, "quilt_1m/val"))


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    out = new_output(tmp_path_factory.mktemp("trained"))
    run(CONFIG, corpus=corpus, out=out)
    return out


def test_held_out_captions_find_their_images_and_images_their_captions(trained):
    assert trained.metrics["recall_at_1_chance"] == pytest.approx(1 / 8)
    for direction in ("text_to_image", "image_to_text"):
        assert trained.metrics[f"{direction}_recall_at_1"] > 0.8
        assert trained.metrics[f"{direction}_recall_at_20"] >= trained.metrics[f"{direction}_recall_at_5"]
    assert trained.metrics["recall_at_1_over_chance"] == trained.metrics["recall_at_1"] * 8
    assert {path.name for path in (trained.path / "plots").iterdir()} == {"loss.png", "retrieval.png"}
    assert (trained.num_in, trained.num_out) == (136, 136)


def test_stock_transformers_load_the_model_and_score_the_same(trained, corpus, tmp_path):
    model = CLIPModel.from_pretrained(trained.path / "model")
    processor = CLIPProcessor.from_pretrained(trained.path / "model")
    heldout = load_examples(corpus / "heldout", processor, new_output(tmp_path))
    images = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in heldout.pixels[:8]]
    inputs = processor(text=heldout.captions[:8], images=images, padding=True, truncation=True, return_tensors="pt")
    assert torch.allclose(inputs["pixel_values"], normalised(heldout.pixels[:8], processor), atol=1e-5)
    with torch.no_grad():
        logits = model(**inputs).logits_per_image
    assert (logits.argmax(dim=1) == torch.arange(8)).float().mean() > 0.7
    assert not list((trained.path / "model").glob("*.bin"))


def test_the_stock_tokenizer_knows_every_character_and_ends_each_text_once(trained):
    tokenizer = AutoTokenizer.from_pretrained(trained.path / "model")
    tokens = tokenizer("Ein Ödem, 脂肪瘤 Ω7")["input_ids"]
    assert tokens.count(tokenizer.eos_token_id) == 1
    assert tokens[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(tokens, skip_special_tokens=True).strip() == "ein ödem, 脂肪瘤 ω7"
    assert len(tokenizer("spot " * 100, truncation=True)["input_ids"]) == TINY.max_length_tokens


def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(trained, corpus, tmp_path, monkeypatch):
    out = new_output(tmp_path)

    def killed_at_50(step, **values):
        if step == 50:
            raise KeyboardInterrupt

    monkeypatch.setattr(out, "series", killed_at_50)
    with pytest.raises(KeyboardInterrupt):
        run(CONFIG, corpus=corpus, out=out)
    saved = torch.load(out.scratch / CHECKPOINT, weights_only=True)
    assert len(saved["losses"]) == 40
    resumed_from = []
    again = new_output(tmp_path)
    monkeypatch.setattr(again, "series", lambda step, **values: resumed_from.append(step))
    run(CONFIG, corpus=corpus, out=again)
    assert resumed_from[0] == 41
    assert contents(again.path) == contents(trained.path)
    assert again.metrics == trained.metrics


def test_training_goes_on_from_a_checkpoint_on_disk(trained, corpus, tmp_path):
    start = str(trained.path / "model")
    out = new_output(tmp_path)
    run(
        PathoclipConfig(model=start, num_steps=2, batch_size=16, learning_rate=1e-6, num_threads=1),
        corpus=corpus,
        out=out,
    )
    assert out.metrics["recall_at_1"] == pytest.approx(trained.metrics["recall_at_1"], abs=0.1)


def test_prometheus_reads_how_it_goes(corpus, tmp_path, monkeypatch):
    port = free_port()
    monkeypatch.setenv(PORT, str(port))
    readings = []

    class Reading:
        """Reads as Prometheus does, after every step."""

        def on_progress(self, done, total, unit):
            if unit == "steps":
                with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10) as answer:
                    readings.append(answer.read().decode())

        def on_series(self, step, values):
            pass

    monkeypatch.setattr(Reporter, "listeners", [Reading()])
    out = new_output(tmp_path)
    run(CONFIG.model_copy(update={"num_steps": 22}), corpus=corpus, out=out)
    told = {
        sample.name.removeprefix("pathoflow_training_"): sample
        for family in text_string_to_metric_families(readings[-1])
        for sample in family.samples
    }
    assert told["loss"].value == read_series(out.directory)["loss"][22]
    # The reader was told before the exporter.
    assert (told["step"].value, told["planned_steps"].value) == (21, 22)
    assert told["checkpoint_size_bytes"].value == (out.scratch / CHECKPOINT).stat().st_size
    assert told["step"].labels["stage"] == "pathoclip"
    assert told["step"].labels["model"].startswith("clip-")


def test_a_model_that_cannot_be_loaded_is_an_input_error(corpus, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty cannot be read"):
        run(PathoclipConfig(model=str(tmp_path / "empty")), corpus=corpus, out=new_output(tmp_path))


def test_one_pair_is_too_few(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", train=spots(1, 0, "quilt_1m/train"))
    with pytest.raises(InputError, match="at least two"):
        run(CONFIG, corpus=corpus, out=new_output(tmp_path))


def test_without_heldout_pairs_the_model_is_made_and_not_scored(corpus, tmp_path):
    alone = write_corpus(tmp_path / "corpus", train=spots(8, 0, "quilt_1m/train"))
    out = new_output(tmp_path)
    run(CONFIG.model_copy(update={"num_steps": 2}), corpus=alone, out=out)
    assert "recall_at_1" not in out.metrics
    assert (out.path / "model" / "model.safetensors").is_file()


def test_the_loss_is_the_published_one_where_captions_differ():
    logits = torch.tensor([[4.0, 1.0, 0.0], [2.0, 3.0, 1.0], [0.0, 1.0, 5.0]])
    places = torch.arange(3)
    expected = (
        torch.nn.functional.cross_entropy(logits, places) + torch.nn.functional.cross_entropy(logits.T, places)
    ) / 2
    assert contrastive_loss(logits, torch.tensor([7, 8, 9])) == pytest.approx(expected.item())


def test_equal_captions_are_not_pushed_apart():
    captions = torch.tensor([1, 1, 2])
    logits = torch.tensor([[5.0, 5.0, 0.0], [5.0, 5.0, 0.0], [0.0, 0.0, 9.0]], requires_grad=True)
    contrastive_loss(logits, captions).backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad[:2, 0], logits.grad[:2, 1], atol=1e-7)


def test_the_temperature_stays_below_its_bound(corpus):
    model, _, _ = load(CONFIG, ["a caption"])
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07), abs=1e-3)
    assert math.exp(MAX_LOGIT_SCALE) == pytest.approx(100)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing():
    shares = [learning_rate_share(step, CONFIG) for step in range(CONFIG.num_steps + 1)]
    assert shares[CONFIG.warmup_steps] == max(shares) == 1
    assert 0 < shares[0] < shares[1]
    assert shares[-1] == pytest.approx(0)


def test_an_epoch_shows_every_pair_once_in_an_order_of_its_own():
    epochs = [[batch_of(step, 40, 8, seed=3).tolist() for step in range(first, first + 5)] for first in (0, 5)]
    assert all(sorted(chain.from_iterable(epoch)) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert batch_of(7, 40, 8, seed=3).tolist() == epochs[1][2]
    assert len(batch_of(0, 5, 8, seed=3)) == 5


def test_crops_show_a_part_of_the_image_the_right_way_round():
    ramp = torch.linspace(0, 255, 28).expand(64, 3, 28, 28)
    crops = random_crops(ramp, 0.5, step=0, seed=0)
    assert crops.shape == ramp.shape
    assert (crops.diff(dim=3) >= -1e-3).all()
    shown = (crops[:, 0, 0, -1] - crops[:, 0, 0, 0]) / 255
    assert shown.min() > math.sqrt(0.5) - 0.06
    assert shown.max() < 1.01
    assert shown.std() > 0.03
    assert torch.equal(crops, random_crops(ramp, 0.5, step=0, seed=0))
    assert not torch.equal(crops, random_crops(ramp, 0.5, step=1, seed=0))
    assert torch.allclose(random_crops(ramp, 1.0, step=0, seed=0), ramp, atol=1e-2)


def test_any_equal_caption_is_a_hit_and_ties_are_no_hits():
    units = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=1)
    assert ranks(units, units, torch.tensor([0, 1, 2])).tolist() == [1, 1, 1]
    swapped = units[[1, 0, 2]]
    assert ranks(units, swapped, torch.tensor([0, 1, 2])).tolist() == [2, 2, 1]
    assert ranks(units, swapped, torch.tensor([0, 0, 2])).tolist() == [1, 1, 1]
    collapsed = torch.ones(3, 2)
    assert ranks(collapsed, collapsed, torch.tensor([0, 1, 2])).tolist() == [3, 3, 3]


def test_chance_is_what_random_orders_score():
    captions = [0, 0, 0, 1, 2, 2]
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(0, 6, (20_000, 6), generator=generator)
    hits = (torch.tensor(captions)[picks] == torch.tensor(captions)).double().mean().item()
    assert chance_at_1(captions) == pytest.approx(hits, abs=0.01)


@pytest.mark.parametrize("values", [{"vision_width": 30}, {"patch_size_px": 5}, {"patch": 7}])
def test_sizes_that_do_not_fit_are_refused(values):
    with pytest.raises(ValidationError):
        TinyClip(**(TINY.model_dump() | values))
