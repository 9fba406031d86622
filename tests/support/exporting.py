"""Trains tiny models for a step in each of some modes and exports each twice, halfway and at the end.

`python -m tests.support.exporting <directory> <cases as JSON>`, under torchrun for several processes. A case
is a name with the configuration's values and whether the model's output layer is its embeddings (`tied`). Beside each
export lie the whole weights in training.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from safetensors.torch import save_file
from transformers import TrainerCallback
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from components.training.sft.config import SftConfig
from pathoflow.modeling.encoding import Encoder
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.pretrained import save_model
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.training.engine import PackTrainer, pack_arguments, plan_steps, save_trained
from pathoflow.training.lengths import SampleLengths
from pathoflow.training.steps import StepShares
from pathoflow.training.trainable_weights import prepare_model
from tests.invariant.trajectory import WORDS, make_samples
from tests.support.conversations import TINY_SHAPE

NUM_STEPS = 2


class Exporting(TrainerCallback):
    """Exports the model after each step, as RL does with its best one."""

    def __init__(self, folder: Path, processor: Any) -> None:
        self.trainer: Any = None
        self._folder, self._processor = folder, processor

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        save_trained(self.trainer, self._processor, self._folder / f"ours-{state.global_step}")
        write_whole(self.trainer, self._folder / f"whole-{state.global_step}.safetensors")


def write_whole(trainer: Any, file: Path) -> None:
    """The weights in training by their names in memory, adapters merged by PEFT's own means."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "peft_config"):
        state = copy.deepcopy(model).merge_and_unload().state_dict()
    save_file({name: tensor.clone() for name, tensor in state.items()}, file)


def tiny_model(tokenizer: Any, *, tied: bool) -> Qwen2_5_VLForConditionalGeneration:
    model = build_tiny_model(TinyShape(**TINY_SHAPE), tokenizer, seed=0)
    if tied:
        return model
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(model.config)


def export(folder: Path, *, tied: bool, **values: Any) -> None:
    """Trains one model for some steps."""
    processor = new_processor(train_tokenizer([" ".join(WORDS)] * 4, 340), max_pixels=28 * 28 * 4)
    encoder, samples = Encoder(processor), make_samples()
    lengths = np.array([length for length, _ in encoder.measure(samples)])
    defaults = {"bf16": False, "max_length_tokens": 64, "gradient_checkpointing": False, "learning_rate": 1e-2}
    defaults |= {"batch_size_per_process": 2, "max_steps": NUM_STEPS, "freeze_vision_tower": True}
    config = SftConfig(**defaults | values)
    plan = plan_steps(
        config, np.arange(len(samples)), SampleLengths(lengths, lengths * 1.0), PartialState().num_processes
    )
    state = PartialState()
    if state.is_main_process:
        save_model(tiny_model(processor.tokenizer, tied=tied), processor, folder / "start")
    state.wait_for_everyone()
    # As the stages do it: with ZeRO-3 the model comes into being spread over the processes.
    arguments = pack_arguments(config, folder / "checkpoints", plan)
    model, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(folder / "start"))
    exporting = Exporting(folder, processor)
    shares = StepShares(plan, samples.__getitem__, encoder)
    exporting.trainer = PackTrainer(shares, model=prepare_model(model, config), args=arguments, callbacks=[exporting])
    exporting.trainer.args.save_strategy = "no"
    exporting.trainer.train()


if __name__ == "__main__":
    torch.set_num_threads(1)
    process = PartialState(cpu=True)
    for name, case in json.loads(sys.argv[2]).items():
        AcceleratorState._reset_state()
        # Or the next model would be built in parts, as for the last one's ZeRO-3.
        unset_hf_deepspeed_config()
        export(Path(sys.argv[1]) / name, **case)
    process.destroy_process_group()
    sys.stdout.flush()
    # Libraries' own threads may abort the interpreter while it is taken apart, as in training/worker_bootstrap.py.
    os._exit(0)
