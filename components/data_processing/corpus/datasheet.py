"""Describes the corpus for people: its content, its sources, and the pairs that were left out and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.decisions import Decisions, Fault
from components.data_processing.corpus.plots import caption_lengths, image_sizes
from components.data_processing.corpus.splits import SPLITS, compile_globs
from pathoflow.contract.output import StageOutput
from pathoflow.data.lexicon import Lexicon
from pathoflow.data.plots import image_grid, stacked_bars

DATASHEET_FILE = "datasheet.md"
NUM_SHOWN = {"heldout": 4, "dev": 4, "train": 16}
NUM_EXAMPLES = 3
_MOST_READ_FOR_SUBFIELDS = 50_000
_EXAMPLE_CHARACTERS = 110
_EXPLANATIONS = {
    "boilerplate_only": "nothing but scale bars, figure numbers, copyright lines and the like",
    "caption_too_short": "fewer letters than `min_caption_letters`",
    "other_language": "most letters of a script that `languages` does not name",
    "blank_image": "an image of one colour",
    "too_many_captions": "further captions of the very same image, beyond `max_captions_per_image`",
    "too_many_images": "further images under the very same words, beyond `max_images_per_caption`",
    "evaluation_name": "bears the name of an evaluation item",
    "evaluation_pattern": "belongs to a source that is an evaluation set",
    "evaluation_same_file": "its image is an evaluation image",
    "evaluation_similar_image": "its image looks like an evaluation image",
    "empty_caption": "no caption",
    "caption_too_long": "a caption longer than `max_caption_characters`",
    "repeated_pair_id": "another pair bears the same id; the better one stays",
    "missing_value": "a column that every pair needs is empty",
    "missing_image": "no image",
    "bad_size": "a size that no image has",
    "bad_hash": "a hash that is none",
    "image_changed": "bytes that are not those which were hashed",
    "not_an_image": "bytes that are no image",
    "corrupt_image": "an image that cannot be decoded",
    "image_too_large": "an image of more pixels than `max_image_pixels`",
}


@dataclass
class Facts:
    """The facts that the datasheet states.

    Attributes:
        kept: Source, language, sizes and so on of the pairs that stay.
        dropped: See `decisions.DROPPED`.
        faults: Broken pairs.
        contamination: The pairs that each evaluation set took out.
        num_read: Pairs read.
        quality: Counts of the repairs to captions that stay.
        licences: Licence of each source.
        subfields: Pairs by subfield, as far as the names of diagnoses in captions tell; empty without a lexicon.
        captions: Captions of dropped pairs shown as examples, by pair_id.
        shown: Some pairs with their images.
    """

    kept: pa.Table
    dropped: pa.Table
    faults: list[Fault]
    contamination: dict[str, Any]
    num_read: int
    quality: Counter[str]
    licences: dict[str, str]
    subfields: dict[str, int]
    captions: dict[str, str]
    shown: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, survey: pa.Table, decisions: Decisions, config: CorpusConfig) -> Facts:
        """Gathers the facts, in an order that does not depend on how the pairs were read."""
        rows = pa.array(decisions.kept)
        columns = ["source", "language", "split", "width", "height", "num_refs", "image_bytes", "quality"]
        kept = survey.select(columns).take(rows)
        kept = kept.append_column("length", pc.utf8_length(survey["caption"].take(rows)))
        kept = kept.set_column(2, "split", pa.array(SPLITS).take(kept["split"].combine_chunks()))
        examples = set(_examples(decisions.dropped))
        return cls(
            kept=kept,
            dropped=decisions.dropped,
            faults=decisions.faults,
            contamination={name: report.as_dict() for name, report in decisions.contamination.items()},
            num_read=len(survey),
            quality=Counter(kept["quality"].to_pylist()),
            licences=_licences(kept["source"].unique().to_pylist(), config.licences),
            subfields=_subfields(survey, decisions, config),
            captions=_captions(survey, examples),
        )

    @property
    def reasons(self) -> dict[str, int]:
        """Dropped pairs by reason."""
        return dict(sorted(Counter(self.dropped["reason"].to_pylist()).items()))

    def show(self, pairs: pa.Table) -> None:
        """Keeps a few pairs to show."""
        have = Counter(row["split"] for row in self.shown)
        for row in pairs.slice(0, max(NUM_SHOWN.values())).select(["image", "caption", "split"]).to_pylist():
            if have[row["split"]] < NUM_SHOWN[row["split"]]:
                have[row["split"]] += 1
                self.shown.append(row)


def write_datasheet(facts: Facts, out: StageOutput) -> None:
    """Writes `datasheet.md` and the plots it shows."""
    composition: dict[str, Counter[str]] = defaultdict(Counter)
    for name, split, num in _counts(facts.kept, "source", "language", "split"):
        composition[name][split] += num
    ordered = {name: {str(split): parts[split] for split in SPLITS} for name, parts in composition.items()}
    out.plot("composition", stacked_bars(ordered, unit="pairs", title="Pairs by source, language and split"))
    out.plot("caption_lengths", caption_lengths(_by(facts.kept, "language", "length")))
    longer = pc.max_element_wise(facts.kept["width"], facts.kept["height"])
    out.plot("image_sizes", image_sizes(_by(facts.kept.append_column("longer", longer), "source", "longer")))
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for reason, source in zip(*(facts.dropped[name].to_pylist() for name in ("reason", "source")), strict=True):
        reasons[reason][source] += 1
    if reasons:
        out.plot("dropped", stacked_bars(reasons, unit="pairs", title="Pairs dropped by reason and source"))
    words = [f"{row['split']}: {row['caption']}" for row in facts.shown]
    if _all_readable(facts.shown):
        out.plot("contact_sheet", image_grid([row["image"]["bytes"] for row in facts.shown], words))
    (out.path / DATASHEET_FILE).write_text(_text(facts, has_drops=bool(reasons)), encoding="utf-8")


def _text(facts: Facts, *, has_drops: bool) -> str:
    sections = [
        "# Datasheet of the corpus",
        _summary(facts),
        "## What is in it",
        _sources(facts),
        "![Pairs by source, language and split](plots/composition.png)",
        _sizes(facts),
        "![Lengths of captions](plots/caption_lengths.png)\n![Sizes of images](plots/image_sizes.png)",
        *_subfield_section(facts),
        "## What is not in it",
        _dropped(facts),
        *(["![Pairs dropped by reason and source](plots/dropped.png)"] if has_drops else []),
        *_fault_section(facts),
        "## Evaluation data",
        _contamination(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(facts: Facts) -> str:
    splits = Counter(facts.kept["split"].to_pylist())
    named = ", ".join(f"{splits[split]:,} {split}" for split in reversed(SPLITS))
    return (
        f"{facts.num_read:,} pairs of an image and a caption were read; {len(facts.kept):,} are in the corpus "
        f"({named}), {len(facts.dropped):,} were dropped and {len(facts.faults):,} set aside as broken. "
        "`dropped.parquet` and `quarantine.jsonl` name each of the latter, with the reason. Splits follow books, "
        "slides and articles; no image of one split looks like one of another."
    )


def _sources(facts: Facts) -> str:
    by_source: dict[str, Counter[str]] = defaultdict(Counter)
    for source, language, num in _counts(facts.kept, "source", "language"):
        by_source[source][language] += num
    rows = [
        [
            source,
            f"{sum(counts.values()):,}",
            *(f"{counts[key]:,}" for key in ("en", "zh", "other")),
            facts.licences[source],
        ]
        for source, counts in sorted(by_source.items())
    ]
    return _table(["source", "pairs", "Latin script", "Chinese", "other", "licence"], rows)


def _sizes(facts: Facts) -> str:
    if not len(facts.kept):
        return ""
    rows = [
        _quantiles("caption, characters", facts.kept["length"]),
        _quantiles("image, longer side in px", pc.max_element_wise(facts.kept["width"], facts.kept["height"])),
        _quantiles("image file, bytes", facts.kept["image_bytes"]),
    ]
    with_refs = int(pc.sum(pc.greater(facts.kept["num_refs"], 0)).as_py())
    mended = ", ".join(
        f"{facts.quality[key]:,} {words}"
        for key, words in (("repaired", "were repaired"), ("boilerplate_removed", "lost boilerplate"))
    )
    return f"{with_refs:,} pairs have in-line references. Of the captions {mended}.\n\n" + _table(
        ["", "least", "median", "95 %", "most"], rows
    )


def _quantiles(name: str, column: pa.ChunkedArray) -> list[str]:
    values = np.quantile(column.to_numpy(), [0, 0.5, 0.95, 1])
    return [name, *(f"{value:,.0f}" for value in values)]


def _subfield_section(facts: Facts) -> list[str]:
    if not facts.subfields:
        return []
    rows = [[name, f"{num:,}"] for name, num in facts.subfields.items()]
    hint = (
        f"By the one diagnosis that a caption names, in at most {_MOST_READ_FOR_SUBFIELDS:,} pairs. It is a hint, "
        "not a label: captions that name none, or several, say nothing here."
    )
    return ["## Subfields", hint, _table(["subfield", "pairs"], rows)]


def _dropped(facts: Facts) -> str:
    if not len(facts.dropped):
        return "No pair was dropped."
    rows = [[f"`{reason}`", f"{num:,}", explain_reason(reason)] for reason, num in facts.reasons.items()]
    lines = [_table(["reason", "pairs", "what it means"], rows), "Examples:"]
    examples = _examples(facts.dropped)
    for row in facts.dropped.filter(pc.is_in(facts.dropped["pair_id"], pa.array(examples))).to_pylist():
        instead = f", in favour of `{row['kept']}`" if row["kept"] else f" ({row['detail']})" if row["detail"] else ""
        caption = facts.captions.get(row["pair_id"]) or ""
        lines.append(f"- `{row['pair_id']}`: {row['reason']}{instead}. {_quoted(caption)}".rstrip())
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])


def _fault_section(facts: Facts) -> list[str]:
    counts = Counter(fault.reason for fault in facts.faults)
    rows = [[f"`{reason}`", f"{num:,}", explain_reason(reason)] for reason, num in sorted(counts.items())]
    return ["## Set aside as broken", _table(["reason", "pairs", "what it means"], rows)] if rows else []


def _contamination(facts: Facts) -> str:
    if not facts.contamination:
        return (
            "No evaluation set was named (`corpus.evaluation_sets`): pairs are kept apart from the held-out pairs of "
            "this corpus, and from nothing else."
        )
    lines = []
    for name, report in facts.contamination.items():
        items = ", ".join(f"{num:,} {kind.replace('_', ' ')}" for kind, num in report["items"].items() if num)
        routes = ", ".join(f"{num:,} by {route}" for route, num in sorted(report["dropped"].items())) or "nothing"
        lines.append(f"- **{name}** ({items}) took out {routes}.")
        lines += [
            f"  - `{example['pair_id']}` by {example['route']}: {example['item']}" for example in report["examples"]
        ]
    return "\n".join(lines)


def explain_reason(reason: str) -> str:
    """Returns the meaning of a reason in words.

    >>> explain_reason("similar_image_and_same_caption")
    'repeats a pair that stays: similar image and same caption'
    """
    if reason in _EXPLANATIONS:
        return _EXPLANATIONS[reason]
    for part, words in (("_in_heldout", "a held-out pair's"), ("_in_dev", "a dev pair's")):
        if reason.endswith(part):
            return f"its {reason.removesuffix(part).replace('_', ' ')} is {words}"
    return f"repeats a pair that stays: {reason.replace('_', ' ')}"


def _examples(dropped: pa.Table) -> list[str]:
    """Returns the first few pairs of each reason."""
    chosen: dict[str, list[str]] = defaultdict(list)
    for pair_id, reason in zip(dropped["pair_id"].to_pylist(), dropped["reason"].to_pylist(), strict=True):
        if len(chosen[reason]) < NUM_EXAMPLES:
            chosen[reason].append(pair_id)
    return sorted(name for names in chosen.values() for name in names)


def _captions(survey: pa.Table, names: Iterable[str]) -> dict[str, str]:
    here = survey.select(["pair_id", "caption", "detail"]).filter(
        pc.is_in(survey["pair_id"], pa.array(sorted(names), pa.string()))
    )
    return {row["pair_id"]: row["caption"] or row["detail"] or "" for row in here.to_pylist()}


def _licences(sources: Sequence[str], licences: dict[str, str]) -> dict[str, str]:
    matches = [(compile_globs([pattern]), licence) for pattern, licence in licences.items()]
    return {
        source: next((licence for match, licence in matches if match(source)), "not stated")
        for source in sorted(sources)
    }


def _subfields(survey: pa.Table, decisions: Decisions, config: CorpusConfig) -> dict[str, int]:
    if config.lexicon is None:
        return {}
    lexicon = Lexicon.load(config.lexicon)
    kept = survey.select(["order", "caption"]).take(pa.array(decisions.kept))
    first = pc.select_k_unstable(kept, k=min(len(kept), _MOST_READ_FOR_SUBFIELDS), sort_keys=[("order", "ascending")])
    found = [lexicon.find(caption) for caption in kept["caption"].take(first).to_pylist()]
    return dict(sorted(Counter(each.subfield if each else "none named" for each in found).items()))


def _counts(table: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    """Counts rows by the values of some columns, in order; source and language become one name before a split."""
    grouped = table.group_by(list(columns)).aggregate([([], "count_all")])
    rows = sorted(tuple(row[name] for name in (*columns, "count_all")) for row in grouped.to_pylist())
    if columns == ("source", "language", "split"):
        return [(f"{source} ({language})", split, num) for source, language, split, num in rows]
    return rows


def _by(table: pa.Table, key: str, value: str) -> dict[str, np.ndarray]:
    names = sorted(table[key].unique().to_pylist())
    return {name: table.filter(pc.equal(table[key], name))[value].to_numpy() for name in names}


def _all_readable(rows: Sequence[dict[str, Any]]) -> bool:
    """Checks whether a sheet can be drawn: images whose heads alone were checked may still be broken."""
    from pathoflow.data.image_io import UnreadableImage, decode

    try:
        return all(decode(row["image"]["bytes"], max_pixels=10**9) for row in rows)
    except UnreadableImage:
        return False


def _quoted(text: str) -> str:
    if not text:
        return ""
    shown = text if len(text) <= _EXAMPLE_CHARACTERS else f"{text[:_EXAMPLE_CHARACTERS]}…"
    return f"“{shown.replace('`', chr(39))}”"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(headings), ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
