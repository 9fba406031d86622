"""Converts a model that was published pickled to safetensors: `python -m pathoflow.modeling.convert SOURCE --out DIR`.

Only tensors are unpickled, by PyTorch's restricted reader; no stage reads pickles.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import save_file

from pathoflow.errors import InputError, PathoflowError
from pathoflow.modeling.weight_files import WEIGHTS

PICKLE = "pytorch_model.bin"
_BESIDE = ("*.json", "*.txt", "*.jinja")


def convert(source: Path, out: Path) -> int:
    """Writes the model in `source` to `out` with its weights as safetensors.

    Args:
        source: A directory with `pytorch_model.bin`.
        out: A directory that does not exist yet.

    Returns:
        The number of tensors.

    Raises:
        InputError: There are no such weights, they hold more than tensors, or `out` exists.
    """
    if out.exists():
        raise InputError(f"{out} exists already: name a directory that does not.")
    if not (source / PICKLE).is_file():
        raise InputError(f"There is no {PICKLE} in {source}.")
    try:
        # mmap needs the format of PyTorch 1.6 and later, which some published files are older than.
        tensors = torch.load(source / PICKLE, map_location="cpu", weights_only=True)
    except Exception as error:
        # The reader raises whatever a stranger's pickle makes it stumble over.
        raise InputError(f"{source / PICKLE} holds more than tensors, or is broken: {error}") from error
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for pattern in _BESIDE:
        for path in source.glob(pattern):
            shutil.copyfile(path, partial / path.name)
    # Tensors that share memory would be refused.
    own = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(own, partial / WEIGHTS, {"format": "pt"})
    partial.rename(out)
    return len(own)


def main(arguments: list[str]) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m pathoflow.modeling.convert", description=__doc__)
    parser.add_argument("source", help="a directory, or NAME@REVISION of a model on the hub")
    parser.add_argument("--out", type=Path, required=True, help="where the model goes; give this as STAGE.model")
    given = parser.parse_args(arguments)
    try:
        name, _, revision = given.source.rpartition("@")
        directory = Path(given.source)
        if not directory.is_dir():
            if not name:
                raise InputError(f"{given.source} is no directory; a model on the hub is named as NAME@REVISION.")
            directory = Path(snapshot_download(name, revision=revision, allow_patterns=[PICKLE, *_BESIDE]))
        print(f"{convert(directory, given.out)} tensors are in {given.out}.")
    except PathoflowError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
