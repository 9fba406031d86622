"""Writes the panels of all pages as pairs of the common schema."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pathoflow.data.image_io import decode, image_columns, language_of
from pathoflow.data.schemas import PAIRS, ShardWriter

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.pool import PageStore
    from components.data_processing.textbook_pairs.records import Figure, Panel, ReadPage
    from pathoflow.contract.output import StageOutput


def write_pairs(pages: Sequence[ReadPage], store: PageStore, out: StageOutput) -> None:
    """Writes `pairs/*.parquet`, one row per panel, and the metrics that count figures, panels and pairs."""
    used: Counter[str] = Counter()
    count: Counter[str] = Counter()
    with ShardWriter(out.path / "pairs", PAIRS) as shards:
        for page in pages:
            for figure, of_panels in zip(page.figures, page.references, strict=True):
                num_panels = len(figure.panels) if len(figure.panels) > 1 else 0
                count.update(figures=1, kept_whole=bool(figure.kept_whole), panels=num_panels)
                for panel, sentences in zip(figure.panels, of_panels, strict=True):
                    row = _pair(page, figure, panel, sentences, store.crop(panel.crop))
                    used[row["source_id"]] += 1
                    if used[row["source_id"]] > 1:
                        row["source_id"] += f"~{used[row['source_id']]}"
                    row["pair_id"] = _pair_id(row["source_id"], row["image_sha256"])
                    count.update(with_references=bool(row["inline_refs"]))
                    shards.write(row)
        out.num_out = shards.num_rows
    out.metric("num_figures", count["figures"])
    out.metric("num_panels", count["panels"])
    out.metric("num_pairs", out.num_out)
    out.metric("share_kept_whole", count["kept_whole"] / max(count["figures"], 1))
    out.metric("share_with_references", count["with_references"] / max(out.num_out, 1))


def _pair(page: ReadPage, figure: Figure, panel: Panel, references: list[str], crop: bytes) -> dict[str, Any]:
    """Returns one row of the pair schema, without its id."""
    source_id = f"{page.name}/{figure.number or 'unnumbered'}/{panel.label or 'whole'}"
    corners = dict(zip(("x0", "y0", "x1", "y1"), panel.box, strict=True))
    size = {"page_width": page.record.width, "page_height": page.record.height}
    return {
        **image_columns(crop, decode(crop, max_pixels=500_000_000), f"{source_id.replace('/', '-')}.jpg"),
        "caption": panel.caption,
        "inline_refs": references,
        "source": "textbook",
        "source_id": source_id,
        "region": {"page": page.page.number, **corners, **size},
        "language": language_of(panel.caption),
    }


def _pair_id(source_id: str, image_sha256: str) -> str:
    return "textbook-" + hashlib.sha256(f"{source_id} {image_sha256}".encode()).hexdigest()[:16]
