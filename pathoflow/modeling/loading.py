"""Loads the weights of every stage's model: each tensor is accounted for, or loading fails.

transformers initialises at random what it does not find in a checkpoint, and says so in a log. Here the names and
shapes in the files are compared with the model's before any value is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import torch
import xxhash
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from transformers import GenerationConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.modeling_utils import set_zero3_state
from transformers.utils.loading_report import LoadStateDictInfo

from pathoflow.errors import ConfigError, InputError
from pathoflow.modeling.weight_files import StoredTensor, abbreviated, tensors_in
from pathoflow.system.memory import returning_freed_memory

Model = TypeVar("Model", bound=PreTrainedModel)

# What stands beside the weights of a model on the hub. Pickles and other frameworks' weights stay there.
_FETCHED = ("*.safetensors", "*.json", "*.txt", "*.jinja")


@dataclass(frozen=True)
class ModelReference:
    """The place of a model's files.

    Attributes:
        source: A directory, or a name on the model hub.
        revision: The commit on the hub; None with a directory.
        ignored_tensors: Names, with `*` as in file names, that may be absent from the files (they start at random) or
            be in them for nothing.
    """

    source: str | Path
    revision: str | None = None
    ignored_tensors: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.source} at revision {self.revision}" if self.revision else str(self.source)

    def directory(self) -> Path:
        """Returns the directory with the model's files, downloaded from the hub if need be.

        Raises:
            ConfigError: A model on the hub is named without its revision.
            InputError: There is no such model.
        """
        if (directory := Path(self.source)).is_dir():
            return directory
        if Path(self.source).is_absolute():
            raise InputError(f"There is no model in {self.source}: there is no such directory.")
        if self.revision is None:
            raise ConfigError(f"{self.source}: name the commit on the hub to load, so that a run can be repeated.")
        try:
            return Path(snapshot_download(str(self.source), revision=self.revision, allow_patterns=list(_FETCHED)))
        except (OSError, ValueError) as error:
            raise InputError(f"{self} cannot be had from the model hub: {error}") from error


@dataclass(frozen=True)
class LoadReport:
    """The weights that were loaded.

    Attributes:
        num_tensors: Distinct tensors of the model: tied ones count once.
        num_bytes: Their bytes in memory.
        dtype: Their number format in memory.
        digest: Over names, shapes and values of all of them as they are in memory, `xxh3-128:…`. It tells weights
            apart; unlike the seal of the files, it is no protection against tampering.
        absent: Tensors that the files lack and `ignored_tensors` forgives.
    """

    num_tensors: int
    num_bytes: int
    dtype: str
    digest: str
    absent: tuple[str, ...] = ()

    def notes(self) -> dict[str, str]:
        """Describes the weights for the manifest of an output that was made with them."""
        loaded = f"{self.num_tensors} tensors, {self.num_bytes} bytes, {self.dtype}, {self.digest}"
        if self.absent:
            loaded += f"; random, because absent and ignored: {abbreviated(self.absent)}"
        return {"loaded_weights": loaded}


def load(
    model_type: type[Model], reference: ModelReference, *, dtype: torch.dtype = torch.float32
) -> tuple[Model, LoadReport]:
    """Loads the model at `reference` with all of its weights, in evaluation mode, and reports what was loaded.

    Where the processes of a run share the weights by ZeRO-3 (transformers knows once `TrainingArguments` exist), no
    process ever holds the whole model. With GPUs, weights go to the process's own without a stay in host memory.

    Decoding settings that come with a checkpoint are dropped: `generate` would apply them silently.

    Args:
        model_type: The class to build.
        reference: Where the weights are.
        dtype: Their number format in memory.

    Raises:
        ConfigError: A model on the hub is named without its revision.
        InputError: There is no such model; it is pickled, which could run any code when it is read; a file of it is
            broken; or tensors are missing, unknown or of another shape, which the message names.
    """
    directory = reference.directory()
    config = load_configuration(model_type, directory)
    found = tensors_in(directory)
    absent = _check(model_type, config, found, reference)
    shared = is_deepspeed_zero3_enabled()
    with returning_freed_memory() if shared else nullcontext():
        model, information = model_type.from_pretrained(
            directory,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            device_map={"": torch.cuda.current_device()} if torch.cuda.is_available() and not shared else None,
            output_loading_info=True,
        )
        report = _report(model, absent)
    # The check went by names and shapes; this is what transformers did.
    not_loaded = set(information["missing_keys"]) - set(absent) - set(model.all_tied_weights_keys)
    if not_loaded or information["mismatched_keys"] or information["error_msgs"]:
        raise InputError(f"{reference}: transformers could not load {abbreviated(sorted(not_loaded))}: {information}")
    if model.can_generate():
        model.generation_config = _without_settings(model.generation_config)
    return model, report


def load_configuration(model_type: type[PreTrainedModel], directory: Path) -> Any:
    """Loads the configuration in a model's directory.

    Raises:
        InputError: It cannot be read, or is that of another type of model.
    """
    wanted = model_type.config_class.model_type
    try:
        written = json.loads((directory / "config.json").read_bytes()).get("model_type")
        if written != wanted:
            raise InputError(f"{directory} holds a model of type {written!r}, and {wanted!r} is wanted.")
        return model_type.config_class.from_pretrained(directory)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise InputError(f"The configuration in {directory} cannot be read: {error}") from error


def _check(
    model_type: type[Model], config: Any, found: Mapping[str, StoredTensor], reference: ModelReference
) -> tuple[str, ...]:
    """Compares the tensors in the files with the model's; returns the absent ones that `ignored_tensors` allows.

    Raises:
        InputError: They differ beyond what is forgiven.
    """
    # With ZeRO-3, parts of the model would come into being spread over processes, if transformers did not take that as
    # done.
    with torch.device("meta"), set_zero3_state():
        blank = model_type(config)
    expected = {name: tuple(tensor.shape) for name, tensor in blank.state_dict().items()}
    renamed = _renamed(blank, found)
    # What transformers itself knows to be of no account, as buffers of older versions.
    differences = LoadStateDictInfo(
        missing_keys=expected.keys() - renamed.keys() - blank.all_tied_weights_keys.keys(),
        unexpected_keys=renamed.keys() - expected.keys(),
        mismatched_keys={
            (name, renamed[name].shape, expected[name])
            for name in expected.keys() & renamed.keys()
            if renamed[name].shape != expected[name]
        },
        error_msgs=[],
        conversion_errors={},
        skipped_pp_keys=set(),
    )
    blank._adjust_missing_and_unexpected_keys(differences)
    absent = tuple(sorted(name for name in differences.missing_keys if _is_ignored(name, reference)))
    missing = sorted(differences.missing_keys - set(absent))
    unknown = sorted(name for name in differences.unexpected_keys if not _is_ignored(name, reference))
    reshaped = [
        f"{name} {list(there)} instead of {list(here)}" for name, there, here in sorted(differences.mismatched_keys)
    ]
    faults = [
        f"{len(names)} {what}: {abbreviated(names)}"
        for what, names in (("are missing", missing), ("are unknown", unknown), ("have another shape", reshaped))
        if names
    ]
    if faults:
        raise InputError(
            f"The weights of {reference} do not fit a {model_type.__name__} of its configuration. Of "
            f"{len(expected)} tensors " + "; ".join(faults) + ". What is missing would start at random: take weights "
            "and configuration from the same model, or name what may differ in ignored_tensors."
        )
    _check_ties(blank, renamed, reference)
    return absent


def _renamed(blank: PreTrainedModel, found: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Returns the tensors in the files under their names in memory, by transformers' own conversion."""
    conversions = get_model_conversion_mapping(blank)
    renamings = [entry for entry in conversions if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in conversions if isinstance(entry, WeightConverter)]
    prefix, present = blank.base_model_prefix, blank.state_dict()
    return {rename_source_key(name, renamings, converters, prefix, present)[0]: found[name] for name in found}


def _is_ignored(name: str, reference: ModelReference) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in reference.ignored_tensors)


def _check_ties(blank: PreTrainedModel, found: Mapping[str, StoredTensor], reference: ModelReference) -> None:
    """Checks that weights which the configuration ties are equal where the files hold both.

    transformers would drop one of them without a word.

    Raises:
        InputError: They hold two that differ.
    """
    for name, other in blank.all_tied_weights_keys.items():
        if name in found and other in found and not torch.equal(found[name].read(), found[other].read()):
            raise InputError(
                f"{reference}: its configuration ties {name} to {other}, but its files hold two that differ. Take "
                "weights and configuration from the same model."
            )


def _without_settings(given: GenerationConfig | None) -> GenerationConfig:
    """Keeps the end-of-text tokens of a generation configuration and drops its maker's sampling settings."""
    ends = {name: getattr(given, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return GenerationConfig(**ends)


def _report(model: PreTrainedModel, absent: Sequence[str]) -> LoadReport:
    # Tied weights come once, by their first name.
    tensors = dict(model.named_parameters())
    if is_deepspeed_zero3_enabled():
        digests = [_digest_of_shared(tensor) for tensor in tensors.values()]
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            digests = list(threads.map(_digest, tensors.values()))
    whole, num_bytes = xxhash.xxh3_128(), 0
    for (name, tensor), digest in zip(tensors.items(), digests, strict=True):
        # DeepSpeed keeps the shape of what it has spread over processes.
        shape = torch.Size(getattr(tensor, "ds_shape", tensor.shape))
        whole.update(f"{name} {list(shape)} {tensor.dtype} {digest}\n".encode())
        num_bytes += shape.numel() * tensor.element_size()
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    return LoadReport(len(tensors), num_bytes, " and ".join(dtypes), f"xxh3-128:{whole.hexdigest()}", tuple(absent))


def _digest(tensor: torch.Tensor) -> str:
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return xxhash.xxh3_128_hexdigest(data)


def _digest_of_shared(tensor: torch.Tensor) -> str:
    # Half a second of imports that only ZeRO-3 needs.
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters

    with GatheredParameters([tensor]):
        return _digest(tensor)
