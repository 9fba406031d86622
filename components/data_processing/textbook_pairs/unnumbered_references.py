"""In-line references without a figure's number (`as the lower picture shows`), found by a language model.

Source: Patho-R1 §3.2 lets Qwen-max find the in-line references. *Differs from source*: those with a number are found by
rules (`references.py`); the model is asked for the others only, and only where a recipe names an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from components.data_processing.textbook_pairs.captions.references import mentions
from components.data_processing.textbook_pairs.pool import Job, PageStore
from components.data_processing.textbook_pairs.records import BadPage, Figure, Mentions, UnnumberedMention
from pathoflow.inference.endpoint import Endpoint
from pathoflow.inference.openai_endpoint import OpenAIEndpoint
from pathoflow.inference.protocol import Request, Response
from pathoflow.qa.prompts import text_message

_PROMPT = (
    "Below are figures of a pathology textbook with their captions, and numbered sentences from the pages around them. "
    "Find the sentences that point the reader to one of these figures, or to one panel of it, without its number: "
    "'as the picture on the left shows', 'the nuclei illustrated here', '如下图所示'. A sentence that merely treats "
    "the same disease points to no figure. Answer with JSON only: for each such sentence its number, the figure's "
    "place in the list below, and the panel's label, empty if it means the whole figure.\n\n"
    "Figures\n{figures}\n\nSentences\n{sentences}"
)
_FAILED = "unnumbered_mentions_failed"


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _FoundReference(_Answer):
    sentence: int
    figure: int
    panel: str


class _References(_Answer):
    references: list[_FoundReference]


def find_mentions(
    asked: Mapping[Job, Sequence[Figure]],
    sentences_of: Callable[[Job], Sequence[str]],
    store: PageStore,
    endpoint: Endpoint,
    on_done: Callable[[int], None],
) -> dict[Job, Mentions | BadPage]:
    """Asks for the figures of each page; answers lie in the store, and are not asked for again.

    Args:
        asked: The pages, as jobs of the kind `mentions`, with their figures.
        sentences_of: The sentences of a page and its neighbours.
        store: Keeps the answers.
        endpoint: Where the language model is.
        on_done: Hears how many pages are finished.

    Raises:
        ConfigError: The endpoint's key is not in the environment.
        EndpointUnavailable: The endpoint cannot be reached, stays busy, or refuses this client.
    """
    waiting = [job for job in asked if not store.has(job)]
    num_done = len(asked) - len(waiting)
    on_done(num_done)
    under_way: list[tuple[Job, list[str]]] = []

    def save(job: Job, answer: Mentions | BadPage) -> None:
        nonlocal num_done
        store.save(job, answer, {})
        num_done += 1
        on_done(num_done)

    def requests() -> Iterator[Request]:
        for job in waiting:
            if candidates := candidate_sentences(sentences_of(job)):
                under_way.append((job, candidates))
                yield mention_request(asked[job], candidates)
            else:
                save(job, Mentions(found=[]))

    def on_response(number: int, response: Response) -> None:
        job, candidates = under_way[number]
        save(job, read_mentions(response, asked[job], candidates))

    if waiting:
        OpenAIEndpoint(endpoint).generate(requests(), on_response)
    return {job: store.load(job, Mentions) for job in asked}


def candidate_sentences(sentences: Sequence[str]) -> list[str]:
    """Returns the different sentences that name no figure's number, in order."""
    return [sentence for sentence in dict.fromkeys(sentences) if not mentions(sentence)]


def mention_request(figures: Sequence[Figure], candidates: Sequence[str]) -> Request:
    """Asks which of the sentences refer to which of the figures.

    The model answers with numbers of sentences, so that it cannot add a word to them.
    """
    question = _PROMPT.format(
        figures="\n".join(f"{number}. {_described(figure)}" for number, figure in enumerate(figures, 1)),
        sentences="\n".join(f"{number}. {sentence}" for number, sentence in enumerate(candidates, 1)),
    )
    return Request([text_message("user", question)], schema=_References)


def read_mentions(response: Response, figures: Sequence[Figure], candidates: Sequence[str]) -> Mentions | BadPage:
    """Returns the references that a model found, or why its answer cannot be used.

    What it says of sentences, figures or panels that there are not is dropped.
    """
    if response.fault is not None:
        return BadPage(reason=_FAILED, detail=response.fault)
    said = _References.model_validate_json(response.text).references
    found = [
        UnnumberedMention(figure=one.figure - 1, panel=one.panel, sentence=candidates[one.sentence - 1])
        for one in said
        if 1 <= one.sentence <= len(candidates)
        and 1 <= one.figure <= len(figures)
        and one.panel in {"", *(panel.label for panel in figures[one.figure - 1].panels)}
    ]
    if said and not found:
        return BadPage(
            reason=_FAILED,
            detail=f"none of its {len(said)} references is to one of the {len(figures)} figures and "
            f"{len(candidates)} sentences",
        )
    return Mentions(found=list(dict.fromkeys(found)))


def _described(figure: Figure) -> str:
    number = f"Figure {figure.number}. " if figure.number else ""
    panels = [f"Panel {panel.label}: {panel.caption}" if panel.label else panel.caption for panel in figure.panels]
    return number + " ".join(panels)
