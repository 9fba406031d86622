"""`pathoflow verify`: re-hashes every sealed output of a run and checks that the outputs fit together."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pathoflow.contract.sealing import MANIFEST_FILE, Manifest, verify
from pathoflow.contract.workdir import WorkDir
from pathoflow.errors import InputError, SealError


def verify_outputs(workdir: Path) -> int:
    """Prints a verdict per output and returns 0, or 4 if any is broken.

    Besides the bytes, each output's recorded inputs are compared with what lies in the work directory: an output made
    from an older input is told, though it is sealed and whole.

    Raises:
        InputError: There is no sealed output.
    """
    place = WorkDir(workdir)
    sealed = {path.parent.name for path in place.root.glob(f"*/{MANIFEST_FILE}")}
    # What was published must be here, even if no manifest says so any more.
    published = {path.stem for path in (place.state / "references").glob("*.json")}
    outputs = [place.output(stage) for stage in sorted(sealed | published)]
    if not outputs:
        raise InputError(f"{workdir} holds no sealed output. Give the --workdir of a run.")
    console = Console()
    table = Table("output", "files", "bytes", "verdict", title=f"Sealed outputs of {workdir}", title_justify="left")
    verdicts: dict[str, Manifest | SealError] = {}
    with console.status("hashing…") as progress:
        for output in outputs:
            progress.update(f"hashing {output.name}…")
            try:
                verdicts[output.name] = verify(output)
            except SealError as error:
                verdicts[output.name] = error
    sound = {stage: verdict for stage, verdict in verdicts.items() if isinstance(verdict, Manifest)}
    broken = [verdict for verdict in verdicts.values() if isinstance(verdict, SealError)]
    for stage in verdicts:
        table.add_row(stage, *_row(sound[stage], sound) if stage in sound else ("", "", "[bold red]FAIL[/]"))
    console.print(table)
    for problem in broken:
        console.print(f"[bold red]FAIL[/] {escape(str(problem))}", highlight=False, soft_wrap=True)
    return SealError.exit_code if broken else 0


def _row(manifest: Manifest, sound: dict[str, Manifest]) -> tuple[str, str, str]:
    """Returns files, bytes and verdict of a whole output, with those of its inputs that are newer than it."""
    size = sum(file.bytes for file in manifest.files)
    newer = [name for name, identity in manifest.inputs.items() if name in sound and sound[name].identity != identity]
    verdict = "[green]PASS[/]" + (f" (made from an older {', '.join(newer)})" if newer else "")
    return str(len(manifest.files)), f"{size:,}", verdict
