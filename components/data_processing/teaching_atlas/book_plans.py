"""Plans the pages of every book: figures, captions, and body text that refers to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, zip_longest

import numpy as np

from components.data_processing.teaching_atlas.book_parts import (
    Block,
    Book,
    BookStyle,
    Chart,
    Figure,
    Heading,
    Mention,
    Page,
    Panel,
    Paragraph,
    Table,
)
from components.data_processing.teaching_atlas.other_images import OTHER_DIAGNOSES
from components.data_processing.teaching_atlas.prose import (
    CHAPTERS,
    CHART_TITLE,
    FACTS,
    FIGURE_REFERENCES,
    GENERAL_FACTS,
    OTHER_TECHNIQUES,
    PANEL_REFERENCES,
    QR_CAPTION,
    TABLE_HEADINGS,
    TABLE_ROWS,
    TABLE_TITLE,
    Chapter,
)
from components.data_processing.teaching_atlas.specimens import (
    DIAGNOSES,
    Diagnosis,
    Language,
    Specimen,
    capitalised,
    draw_specimen,
    joined_findings,
)

STYLES: tuple[BookStyle, ...] = (
    BookStyle("surgical_pathology", "en", "pdf", "A", "lower left", (20, 90, 160), 3, 41, 16),
    BookStyle("binglixue_tupu", "zh", "folder", "A", "lower left", (40, 130, 190), 13, 302, 24),
    BookStyle("bench_primer", "en", "pdf", "(a)", "upper left", (150, 50, 40), 7, 118, 10),
    BookStyle("review_heldout", "en", "folder", "A", "upper left", (30, 110, 80), 21, 7, 20),
)
"""The books of the atlas; the last one is held out."""

_SEED_BRANCH = 3
# Draws of a panel before it may have the same words as another of its figure.
_NUM_DRAWS = 20


@dataclass(frozen=True)
class _PageKind:
    """Kind of a page: panels of each of its figures, number of filling sentences, and other items on it."""

    panels: tuple[int, ...]
    num_facts: int
    extra: str = ""


_SHAPES: tuple[_PageKind, ...] = (
    _PageKind((2,), 12),
    _PageKind((4,), 8),
    _PageKind((1, 1), 8),
    _PageKind((), 13, "table"),
    _PageKind((6,), 7),
    _PageKind((3,), 11),
    _PageKind((), 17, "qr code"),
    _PageKind((1,), 7, "chart"),
    _PageKind((5,), 7),
    _PageKind((3,), 11, "other techniques"),
)


@dataclass
class _Draft:
    """A page while its text is being gathered."""

    chapter: int
    opens_chapter: bool
    shape: _PageKind
    figures: list[Figure]
    mentions: list[Mention] = field(default_factory=list)


def plan_books(seed: int, num_book_pages: int, num_heldout_pages: int) -> list[Book]:
    """Plans all books; the pages that are not held out are shared evenly by all books but the last."""
    num_open = len(STYLES) - 1
    shares = [num_book_pages // num_open + (i < num_book_pages % num_open) for i in range(num_open)]
    return [
        _plan_book(style, num_pages, (seed, _SEED_BRANCH, place))
        for place, (style, num_pages) in enumerate(zip(STYLES, [*shares, num_heldout_pages], strict=True))
    ]


def _plan_book(style: BookStyle, num_pages: int, seed: tuple[int, ...]) -> Book:
    rng = np.random.default_rng(seed)
    drafts = _draft_figures(style, num_pages, rng, seed)
    _mention_figures(drafts, style, rng)
    facts = {chapter.subfield: _endless_facts(chapter, style.language, rng) for chapter in CHAPTERS}
    pages = []
    for index, draft in enumerate(drafts, start=1):
        number = style.first_page_number + index - 1
        name = CHAPTERS[draft.chapter].name.text(style.language)
        numbered = style.first_chapter + draft.chapter
        header = f"Chapter {numbered}  {name}" if style.language == "en" else f"第{numbered}章  {name}"
        blocks = _blocks(draft, style, header, facts[CHAPTERS[draft.chapter].subfield], rng)
        pages.append(Page(index, number, header, tuple(blocks), tuple(draft.mentions)))
    return Book(style, tuple(pages))


def _draft_figures(style: BookStyle, num_pages: int, rng: np.random.Generator, seed: tuple[int, ...]) -> list[_Draft]:
    drafts: list[_Draft] = []
    first_shape = 3 * seed[-1]
    num_figures = [0] * len(CHAPTERS)
    for page in range(num_pages):
        chapter = page * len(CHAPTERS) // num_pages
        shape = _SHAPES[(first_shape + page) % len(_SHAPES)]
        figures = []
        for place, num_panels in enumerate(shape.panels):
            num_figures[chapter] += 1
            number = f"{style.first_chapter + chapter}-{num_figures[chapter]}"
            figure_seed = (*seed, page, place)
            if shape.extra == "other techniques":
                figures.append(_other_figure(number, style.language, rng, figure_seed))
            else:
                figures.append(_figure(number, CHAPTERS[chapter], num_panels, style.language, rng, figure_seed))
        opens = not drafts or drafts[-1].chapter != chapter
        drafts.append(_Draft(chapter, opens, shape, figures))
    return drafts


def _figure(
    number: str,
    chapter: Chapter,
    num_panels: int,
    language: Language,
    rng: np.random.Generator,
    seed: tuple[int, ...],
) -> Figure:
    """Plans a figure of one diagnosis, named by its title, or of both siblings, named by its panels in turn."""
    siblings = [diagnosis for diagnosis in DIAGNOSES if diagnosis.subfield == chapter.subfield]
    first = int(rng.integers(2))
    mixed = num_panels > 1 and rng.random() < 0.5
    shown = [siblings[(first + panel * mixed) % 2] for panel in range(num_panels)]
    num_findings = {1: 4, 2: 3}.get(num_panels, 2)
    parts: list[tuple[Specimen, str]] = []
    for diagnosis in shown:
        for _ in range(_NUM_DRAWS):
            specimen = draw_specimen(rng, diagnosis)
            part = joined_findings(specimen, language, num_findings)
            if mixed:
                part = named_part(diagnosis, part, language)
            if part not in (other for _, other in parts):
                break
        parts.append((specimen, part))
    title = chapter.comparison if mixed else shown[0].name
    return Figure(
        number, capitalised(title.text(language)), _panels(parts, seed), {1: 1, 2: 2, 4: 2}.get(num_panels, 3)
    )


def _other_figure(number: str, language: Language, rng: np.random.Generator, seed: tuple[int, ...]) -> Figure:
    """Plans a figure of an electron micrograph, an immunofluorescence image and a radiograph."""
    parts = []
    for diagnosis in OTHER_DIAGNOSES:
        specimen = draw_specimen(rng, diagnosis)
        part = named_part(diagnosis, joined_findings(specimen, language, 1), language)
        preparation = diagnosis.preparation.text(language)
        parts.append((specimen, f"{preparation}: {part}" if language == "en" else f"{preparation}，{part}"))
    return Figure(number, OTHER_TECHNIQUES.text(language), _panels(parts, seed), len(parts))


def _panels(parts: list[tuple[Specimen, str]], seed: tuple[int, ...]) -> tuple[Panel, ...]:
    letters = "ABCDEF" if len(parts) > 1 else [""]
    return tuple(
        Panel(letter, specimen, part, (*seed, place))
        for place, (letter, (specimen, part)) in enumerate(zip(letters, parts, strict=False))
    )


def named_part(diagnosis: Diagnosis, findings: str, language: Language) -> str:
    """Returns a panel's part of a caption that names the diagnosis itself."""
    name = diagnosis.name.text(language)
    return f"{name} with {findings}" if language == "en" else f"{name}，{findings}"


def panel_caption(figure: Figure, panel: Panel, language: Language) -> str:
    """Returns a panel's full caption: the figure's title and the panel's part, without number and label."""
    if language == "zh":
        return f"{figure.title}。{panel.part}。"
    return f"{figure.title}. {capitalised(panel.part)}."


def reference_to(figure: str, letter: str, style: BookStyle) -> str:
    """Returns the reference of body text to a figure or a panel: `Fig. 3-2A`, `图13-19A`."""
    shown = letter if style.label == "A" else letter.lower()
    return f"Fig. {figure}{shown}" if style.language == "en" else f"图{figure}{shown}"


def _mention_figures(drafts: list[_Draft], style: BookStyle, rng: np.random.Generator) -> None:
    """Writes sentences that refer to figures, most of them on the figure's page and some on a neighbouring one."""
    for place, draft in enumerate(drafts):
        neighbours = [
            other
            for other in drafts[max(0, place - 1) : place + 2]
            if other is not draft and other.chapter == draft.chapter
        ]
        for figure in draft.figures:
            mentioned = rng.permutation(len(figure.panels))[:3].tolist()
            for turn, panel in enumerate(sorted(mentioned)):
                away = turn == 1 or (len(mentioned) == 1 and rng.random() < 0.3)
                target = neighbours[rng.integers(len(neighbours))] if away and neighbours else draft
                target.mentions.append(_panel_mention(figure, figure.panels[panel], style, rng))
            if len(figure.panels) > 1 and rng.random() < 0.5:
                shapes = FIGURE_REFERENCES[style.language]
                sentence = shapes[rng.integers(len(shapes))].format(reference=reference_to(figure.number, "", style))
                draft.mentions.append(Mention(figure.number, "", sentence))


def _panel_mention(figure: Figure, panel: Panel, style: BookStyle, rng: np.random.Generator) -> Mention:
    shapes = PANEL_REFERENCES[style.language]
    sentence = shapes[rng.integers(len(shapes))].format(
        name=panel.specimen.diagnosis.name.text(style.language),
        finding=joined_findings(panel.specimen, style.language, 2),
        reference=reference_to(figure.number, panel.letter, style),
    )
    return Mention(figure.number, panel.letter, sentence)


def _endless_facts(chapter: Chapter, language: Language, rng: np.random.Generator) -> Iterator[str]:
    """Yields sentences of body text in a shuffled order, about the subfield and the craft in general."""
    facts = [*FACTS[chapter.subfield][language], *GENERAL_FACTS[language]]
    return cycle([facts[place] for place in rng.permutation(len(facts))])


def _blocks(
    draft: _Draft, style: BookStyle, header: str, facts: Iterator[str], rng: np.random.Generator
) -> list[Block]:
    """Returns the page from top to bottom: headings, then text and figures in turn, then the extra."""
    language, extra = style.language, draft.shape.extra
    sentences = [mention.sentence for mention in draft.mentions]
    # A Chinese sentence takes two thirds of the room of its English counterpart.
    num_facts = draft.shape.num_facts * 3 // 2 if language == "zh" else draft.shape.num_facts
    sentences += [next(facts) for _ in range(num_facts)]
    sentences = [sentences[place] for place in rng.permutation(len(sentences))]
    num_paragraphs = 1 + (len(draft.figures) or 2)
    paragraphs = [Paragraph(tuple(sentences[place::num_paragraphs])) for place in range(num_paragraphs)]
    if extra == "qr code":
        paragraphs[1] = Paragraph(paragraphs[1].sentences, QR_CAPTION.text(language))
    blocks: list[Block] = [Heading(header, 1)] if draft.opens_chapter else []
    blocks += [Heading(_section(draft, language), 2), paragraphs[0]]
    for figure, paragraph in zip_longest(draft.figures, paragraphs[1:]):
        blocks += [block for block in (figure, paragraph) if block is not None]
    number = f"{style.first_chapter + draft.chapter}-1"
    if extra == "table":
        title = f"Table {number}  " if language == "en" else f"表{number}  "
        rows = (TABLE_HEADINGS[language], *TABLE_ROWS[language])
        blocks.insert(-1, Table(title + TABLE_TITLE.text(language), rows))
    if extra == "chart":
        title = f"Chart {number}  " if language == "en" else f"曲线{number}  "
        curves = tuple(tuple(rng.uniform(10, 90, size=7).cumsum().tolist()) for _ in range(2))
        blocks.append(Chart(title + CHART_TITLE.text(language), curves))
    return blocks


def _section(draft: _Draft, language: Language) -> str:
    chapter = CHAPTERS[draft.chapter]
    if draft.shape.extra == "other techniques":
        return OTHER_TECHNIQUES.text(language)
    if draft.figures:
        return capitalised(draft.figures[0].panels[0].specimen.diagnosis.name.text(language))
    return chapter.name.text(language)
