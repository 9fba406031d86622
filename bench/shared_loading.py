"""Loads a model whose weights the processes share by ZeRO-3: `torchrun … -m bench.shared_loading <model> <folder>`.

Each process leaves `<rank>.json` in the folder: the digest of the weights, their bytes, and by how much its memory
without pages of files grew at most while it loaded, once a tiny model has brought in the libraries.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import TrainingArguments

from components.training.sft.config import SftConfig
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.pretrained import save_model
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.training.engine import trainer_arguments, weights_dtype


class PeakOfOwnMemory(threading.Thread):
    """Samples this process's anonymous memory: pages of mapped files can be dropped at any time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.peak = own_memory()
        self.is_over = threading.Event()

    def run(self) -> None:
        """Samples until `is_over` is set."""
        while not self.is_over.wait(0.002):
            self.peak = max(self.peak, own_memory())


def own_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def main() -> None:
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    state = PartialState(cpu=True)
    warm_up = folder / "warm-up"
    if state.is_main_process:
        tokenizer = train_tokenizer(["a lesion"], 288)
        save_model(build_tiny_model(TinyShape(), tokenizer, seed=0), new_processor(tokenizer, max_pixels=784), warm_up)
    state.wait_for_everyone()
    config = SftConfig(deepspeed_stage=3, bf16=False, num_processes=state.num_processes)
    # While it lives, models are spread over the processes.
    arguments = TrainingArguments(**trainer_arguments(config, folder / "checkpoints"))
    load(Qwen2_5_VLForConditionalGeneration, ModelReference(warm_up), dtype=weights_dtype(config))
    state.wait_for_everyone()
    memory = PeakOfOwnMemory()
    memory.start()
    began = time.perf_counter()
    loaded, report = load(Qwen2_5_VLForConditionalGeneration, ModelReference(model), dtype=weights_dtype(config))
    took_s = time.perf_counter() - began
    memory.is_over.set()
    memory.join()
    held = sum(parameter.ds_tensor.numel() * parameter.element_size() for parameter in loaded.parameters())
    found = {
        "digest": report.digest,
        "num_bytes": report.num_bytes,
        "held_bytes": held,
        "grown_bytes": memory.peak - memory.before,
        "took_s": took_s,
    }
    (folder / f"{state.process_index}.json").write_text(json.dumps(found))
    assert arguments.deepspeed
    state.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
