"""Measures loading with every tensor accounted for: time against transformers' own loader, and memory under ZeRO-3.

Both loaders read the same sharded checkpoint into float32, in turns and each in a process of its own, with the files in
the system's cache. Memory is what two processes that share a model by ZeRO-3 grow by at most while it loads, without
pages of files, as a multiple of the model. On CPUs each of them holds the tensor at hand whole besides (on GPUs it does
so there), so the share of the largest tensor counts: here it is that of Qwen2.5-VL-7B. A model with a third of its
weights in one tensor took 2.25 times its size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as stock

from bench.report import Figure, conclude

NUM_LAYERS, FEW_LAYERS = 14, 7
"""Layers of models of 2 GB and of 1.2 GB in bfloat16, whose largest tensor is 7 and 11 % of the whole."""

TIMED = """
import sys, time
import torch
from pathlib import Path
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as stock
from transformers.utils import logging
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

logging.set_verbosity_error()
logging.disable_progress_bar()
ours, folder = sys.argv[1] == "ours", Path(sys.argv[2])
started = time.perf_counter()
if ours:
    load(Qwen2_5_VLForConditionalGeneration, ModelReference(folder))
else:
    stock.Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
print(time.perf_counter() - started)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller model, fewer turns")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large"
        num_bytes = write_model(large, FEW_LAYERS if quick else NUM_LAYERS)
        times: dict[str, list[float]] = {"stock": [], "ours": []}
        for _ in range(3 if quick else 7):
            for name, taken in times.items():
                taken.append(timed(name, large))
        stock_s, ours_s = (statistics.median(times[name]) for name in ("stock", "ours"))
        print(f"{num_bytes / 1e9:.2f} GB: transformers {stock_s:.2f} s, ours {ours_s:.2f} s (medians of {times})")
        ratio = memory_ratio(large, Path(folder))
    conclude(
        "Loading a sharded checkpoint",
        [
            Figure(f"time for {num_bytes / 1e9:.1f} GB", ours_s / stock_s, "x", "transformers' loader, same run", 1.2),
            Figure("host memory of two processes, ZeRO-3", ratio, "x", "the model, once", 1.3),
        ],
    )


def write_model(folder: Path, num_layers: int) -> int:
    """Writes a Qwen2.5-VL with random weights in bfloat16, in shards; returns its bytes."""
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 32_000,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": num_layers,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
            "bos_token_id": None,
            "eos_token_id": None,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 512,
            "intermediate_size": 1024,
            "num_heads": 8,
            "out_hidden_size": 2048,
            "fullatt_block_indexes": [3],
        },
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = stock.Qwen2_5_VLForConditionalGeneration(config)
    model.to(torch.bfloat16).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.02, generator=generator)
    model.save_pretrained(folder, max_shard_size="500MB")
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def timed(loader: str, folder: Path) -> float:
    """Returns the seconds that one load takes."""
    command = [sys.executable, "-c", TIMED, loader, str(folder)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def memory_ratio(model: Path, folder: Path) -> float:
    """Returns the peak memory of two processes that share a model, in model sizes, see `bench.shared_loading`."""
    results = folder / "memory"
    results.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "bench.shared_loading", str(model), str(results)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    found = [json.loads(path.read_text()) for path in results.glob("*.json")]
    return float(sum(process["grown_bytes"] for process in found) / found[0]["num_bytes"])


if __name__ == "__main__":
    main()
