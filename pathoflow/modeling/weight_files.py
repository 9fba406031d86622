"""Reads a model's safetensors files: their names, their index and their tensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from pathoflow.errors import InputError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_NAMED = 8
"""Tensors that an error names; more are counted."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in a safetensors file.

    Attributes:
        name: Its name in the file.
        file: The file that holds it.
        shape: Its shape.
    """

    name: str
    file: Path
    shape: tuple[int, ...]

    def read(self) -> torch.Tensor:
        """Reads the tensor's values."""
        with safe_open(self.file, framework="pt") as opened:
            return opened.get_tensor(self.name)


def tensors_in(directory: Path) -> dict[str, StoredTensor]:
    """Lists the tensors in the safetensors files of a model's directory, without reading values.

    Raises:
        InputError: There are no such files, one is broken, or they are not those that their index lists.
    """
    found: dict[str, StoredTensor] = {}
    in_index = _files_by_tensor(directory)
    for file in weight_files(directory):
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    found[name] = StoredTensor(name, file, tuple(opened.get_slice(name).get_shape()))
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file} is broken or missing: {error}. Fetch the model again.") from error
    if lost := sorted(in_index.keys() - found.keys() - {""}):
        raise InputError(f"{directory / INDEX} lists {abbreviated(lost)}, which no file holds. Fetch the model again.")
    return found


def weight_files(directory: Path) -> list[Path]:
    """Lists the safetensors files of a model.

    Raises:
        InputError: There are none.
    """
    return [directory / name for name in sorted(set(_files_by_tensor(directory).values()))]


def _files_by_tensor(directory: Path) -> dict[str, str]:
    """Maps each tensor to its file, by the index or, without one, to the only file."""
    if (directory / INDEX).is_file():
        try:
            in_index: dict[str, str] = dict(json.loads((directory / INDEX).read_bytes())["weight_map"])
            return {tensor: Path(name).name for tensor, name in in_index.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{directory / INDEX} is no index of weights: {error!r}. Fetch the model again."
            ) from error
    if (directory / WEIGHTS).is_file():
        return {"": WEIGHTS}
    names = sorted(path.name for path in directory.iterdir())
    if pickled := [name for name in names if name.endswith(_PICKLES)]:
        raise InputError(
            f"{directory}: its weights are pickled ({pickled[0]}), which could run any code when read; convert them to "
            "safetensors by `python -m pathoflow.modeling.convert`."
        )
    raise InputError(
        f"There is no {WEIGHTS} in {directory}, and no index of several; it holds {abbreviated(names)}. A model whose "
        "maker published pickles alone is converted by `python -m pathoflow.modeling.convert`."
    )


def abbreviated(names: Sequence[str]) -> str:
    """Joins the first few names and counts the others.

    >>> abbreviated(["a", "b"])
    'a, b'
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(names[:_NAMED]) or "nothing") + more
