"""In-line references of every panel: sentences around its page that name its figure's number, or mean it without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from components.data_processing.textbook_pairs.captions.references import references_to
from components.data_processing.textbook_pairs.figures.cutting import WHOLE
from components.data_processing.textbook_pairs.pool import Job, PageStore
from components.data_processing.textbook_pairs.records import (
    BadPage,
    Figure,
    Mentions,
    Panel,
    ReadPage,
    UnnumberedMention,
    key_of,
)
from components.data_processing.textbook_pairs.text.paragraphs import sentences_across
from components.data_processing.textbook_pairs.unnumbered_references import find_mentions

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.config import TextbookPairsConfig
    from pathoflow.contract.output import StageOutput


def ask_for_mentions(
    asked: Sequence[ReadPage],
    read: Sequence[ReadPage],
    store: PageStore,
    config: TextbookPairsConfig,
    out: StageOutput,
) -> dict[int, Mentions]:
    """Asks a language model which sentences mean the figures of each page without their number.

    Args:
        asked: The pages to ask about; those without figures are passed over.
        read: All pages that were read, whose text is searched.
        store: Keeps the answers.
        config: Names the endpoint.
        out: Hears of progress; pages without a usable answer are set aside there.

    Returns:
        The answers by position; none where the configuration names no endpoint.
    """
    if config.references_endpoint is None:
        return {}
    by_position = {page.position: page for page in read}
    figures = {Job(page.page, "mentions", key_of(page.position)): page.figures for page in asked if page.figures}
    answers = find_mentions(
        figures,
        lambda job: _sentences_around(int(job.key), by_position, config.neighbour_pages),
        store,
        config.references_endpoint,
        lambda done: out.progress(done, len(figures), "pages", reading="unnumbered mentions"),
    )
    found = {}
    for job, answer in answers.items():
        if isinstance(answer, BadPage):
            out.quarantine(job.page.item, answer.reason, answer.detail)
        else:
            found[int(job.key)] = answer
    return found


def with_references(pages: Sequence[ReadPage], unnumbered: Mapping[int, Mentions], reach: int) -> list[ReadPage]:
    """Returns the pages with the in-line references of every panel.

    Args:
        pages: All pages that were read.
        unnumbered: References without a number, by position.
        reach: How many pages before and after a figure are searched.
    """
    by_position = {page.position: page for page in pages}

    def references(page: ReadPage) -> list[list[list[str]]]:
        sentences = _sentences_around(page.position, by_position, reach) if page.figures else []
        found = unnumbered[page.position].found if page.position in unnumbered else []
        return [
            [
                _references_to(figure, panel, sentences, [mention for mention in found if mention.figure == number])
                for panel in figure.panels
            ]
            for number, figure in enumerate(page.figures)
        ]

    return [replace(page, references=references(page)) for page in pages]


def _sentences_around(position: int, pages: Mapping[int, ReadPage], reach: int) -> list[str]:
    """Returns the sentences of a page and of its neighbours in the same book, in order."""
    book = pages[position].page.book
    near = (pages.get(other) for other in range(position - reach, position + reach + 1))
    return sentences_across(page.text.paragraphs for page in near if page is not None and page.page.book == book)


def _references_to(
    figure: Figure, panel: Panel, sentences: Sequence[str], unnumbered: Sequence[UnnumberedMention]
) -> list[str]:
    """Returns the sentences that mean a panel, in their order."""
    label = None if panel.label == WHOLE else panel.label
    wanted = set(references_to(sentences, figure.number, label))
    wanted.update(mention.sentence for mention in unnumbered if label is None or mention.panel in ("", label))
    return [sentence for sentence in dict.fromkeys(sentences) if sentence in wanted]
