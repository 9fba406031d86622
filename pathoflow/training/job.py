"""Describes a training stage's work for its worker processes, and collects their results."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pathoflow.contract.code import code_of
from pathoflow.contract.config import StageConfig
from pathoflow.contract.output import StageOutput
from pathoflow.contract.sealing import MANIFEST_FILE, read_manifest
from pathoflow.errors import InputError
from pathoflow.system.files import write_atomically

if TYPE_CHECKING:
    from accelerate import PartialState

Config = TypeVar("Config", bound=StageConfig)

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
Overlong = list[tuple[str, int]]
"""Names and lengths of samples that have more tokens than `max_length_tokens`."""

Unlearned = list[tuple[str, str, str]]
"""Name, reason and detail of samples that were set aside when they were to be learned."""

TABLES = "samples"
"""The folder of the tables of sample inputs, below the report and below the stage's plots."""


@dataclass(frozen=True)
class Job:
    """Work of a training stage, as written to a file.

    Attributes:
        config: The stage's resolved configuration.
        inputs: Input directories by the name of their stage.
        output: Directory of the models.
        scratch: Directory of the job's files and checkpoints.
        report: The directory of the stage's reporter.
        skipped: Numbers of quarantined rows, by input and split (`corpus/train`).
        checkpoint: Checkpoint to resume from; None starts from the beginning.
        notes: Remarks that belong beside the result.
        code: Digest of the stage's code.
    """

    config: dict[str, Any]
    inputs: dict[str, Path]
    output: Path
    scratch: Path
    report: Path
    skipped: dict[str, list[int]] = field(default_factory=dict)
    checkpoint: Path | None = None
    notes: dict[str, str] = field(default_factory=dict)
    code: str = ""

    @classmethod
    def create(
        cls,
        config: StageConfig,
        inputs: dict[str, Path],
        out: StageOutput,
        skipped: dict[str, list[int]] | None = None,
    ) -> Job:
        """Creates the job of one stage in its scratch directory."""
        job = cls(
            config.resolved(),
            {name: path.resolve() for name, path in inputs.items()},
            out.path.resolve(),
            out.scratch.resolve(),
            out.directory.resolve(),
            skipped or {},
            code=code_of(type(config)).digest,
        )
        job.write()
        return job

    def write(self, file: Path | None = None) -> None:
        """Replaces the job's file, or writes another one."""
        write_atomically(file or self.file, self.text())

    def text(self) -> str:
        """Returns the content of the job's file."""
        return json.dumps(asdict(self), default=str)

    def origin(self) -> dict[str, Any]:
        """Returns the run that a checkpoint of this job belongs to, see `checkpoints.differences`."""
        inputs = {
            name: read_manifest(path).identity for name, path in self.inputs.items() if (path / MANIFEST_FILE).is_file()
        }
        return {"config": self.config, "inputs": inputs, "code": {"digest": self.code}}

    @classmethod
    def load(cls, file: Path) -> Job:
        """Reads a job that `create` wrote."""
        job = json.loads(file.read_bytes())
        return cls(
            job["config"],
            {name: Path(path) for name, path in job["inputs"].items()},
            Path(job["output"]),
            Path(job["scratch"]),
            Path(job["report"]),
            job["skipped"],
            Path(job["checkpoint"]) if job["checkpoint"] else None,
            job["notes"],
            job["code"],
        )

    @property
    def file(self) -> Path:
        """The job's own file."""
        return self.scratch / JOB_FILE

    @property
    def checkpoints(self) -> Path:
        """Directory of the Trainer's checkpoints."""
        return self.scratch / "checkpoints"

    def settings(self, config_type: type[Config]) -> Config:
        """Returns the stage's configuration as an object."""
        return config_type.model_validate(self.config)

    def finish(
        self,
        metrics: dict[str, float],
        notes: dict[str, str] | None = None,
        overlong: Overlong | None = None,
        nothing_left_of: str | None = None,
        unseen: Unlearned | None = None,
    ) -> None:
        """Writes the results for the supervising process.

        Args:
            metrics: Final figures.
            notes: Remarks that belong beside them.
            overlong: Names and lengths of the samples that were set aside because of their lengths.
            nothing_left_of: The part of an input that consists of these alone, see `finish_without`.
            unseen: Name, reason and detail of samples whose images turned out to be broken, see `training.unseen`.
        """
        result = {
            "metrics": metrics,
            "notes": self.notes | (notes or {}),
            "overlong": overlong or [],
            "nothing_left_of": nothing_left_of,
            "unseen": unseen or [],
        }
        write_atomically(self.scratch / RESULT_FILE, json.dumps(result))

    def finish_without(self, part: str, overlong: Overlong, state: PartialState) -> None:
        """Ends the work before its training: all samples of one part of an input are too long. `collect` raises."""
        if state.is_main_process:
            self.finish({}, overlong=overlong, nothing_left_of=part)

    def collect(self, out: StageOutput) -> None:
        """Copies the workers' results into the stage's output.

        Raises:
            InputError: All samples are too long.
        """
        result = json.loads((self.scratch / RESULT_FILE).read_bytes())
        for name, value in result["metrics"].items():
            out.metric(name, value)
        for name, value in result["notes"].items():
            out.note(name, value)
        for item, num_tokens in result["overlong"]:
            out.quarantine(item, "too_long", f"{num_tokens} tokens; raise max_length_tokens to learn it")
        for item, reason, detail in result["unseen"]:
            out.quarantine(item, reason, detail)
        out.num_out -= len(result["overlong"]) + len(result["unseen"])
        if result["nothing_left_of"]:
            limit = self.config["max_length_tokens"]
            raise InputError(
                f"All of {result['nothing_left_of']} is longer than {limit} tokens, images included; the lengths stand "
                "in quarantine.jsonl. Raise max_length_tokens, or lower max_pixels: smaller images are shorter."
            )
        if (self.report / TABLES).is_dir():
            shutil.copytree(self.report / TABLES, out.path / "plots" / TABLES)
