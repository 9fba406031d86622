"""In-line references without a figure's number (`as the lower picture shows`), found by a language model.

Source: Patho-R1 §3.2 lets Qwen-max find the in-line references. *Differs from source*: those with a number are found by
rules (`references.py`); the model is asked for the others only, and only where a recipe names an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from components.data_processing.textbook_pairs.captions.references import mentions
from components.data_processing.textbook_pairs.pool import Job, PageStore
from components.data_processing.textbook_pairs.records import BadPage, Figure, Mentions, UnnumberedMention
from pathoflow.inference.chat import ChatClient, UnusableAnswer

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.config import TextbookPairsConfig

_PROMPT = (
    "Below are figures of a pathology textbook with their captions, and numbered sentences from the pages around them. "
    "Find the sentences that point the reader to one of these figures, or to one panel of it, without its number: "
    "'as the picture on the left shows', 'the nuclei illustrated here', '如下图所示'. A sentence that merely treats "
    "the same disease points to no figure. Answer with JSON only: for each such sentence its number, the figure's "
    "place in the list below, and the panel's label, empty if it means the whole figure.\n\n"
    "Figures\n{figures}\n\nSentences\n{sentences}"
)
_REQUESTS_AHEAD = 2


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _FoundReference(_Answer):
    sentence: int
    figure: int
    panel: str


class _References(_Answer):
    references: list[_FoundReference]


class MentionFinder:
    """Asks a language model which sentences refer to the figures of a page without a number.

    Raises:
        ConfigError: The key that the configuration speaks of is not in the environment.
    """

    def __init__(self, config: TextbookPairsConfig) -> None:
        self._client = ChatClient(
            config.references_endpoint,
            config.references_model,
            api_key_variable=config.references_api_key_variable,
            timeout_s=config.references_timeout_s,
            max_retries=config.references_max_retries,
            max_tokens=config.references_max_tokens,
        )

    def find(self, figures: Sequence[Figure], sentences: Sequence[str]) -> list[UnnumberedMention]:
        """The references among the sentences that name no number.

        The model answers with numbers of sentences, so that it cannot add a word to them; what it says of sentences,
        figures or panels that there are not is dropped.

        Raises:
            ChatUnavailable: The endpoint cannot be reached, stays busy, or refuses this client.
            UnusableAnswer: Its answer cannot be used.
        """
        candidates = [sentence for sentence in dict.fromkeys(sentences) if not mentions(sentence)]
        if not candidates:
            return []
        question = _PROMPT.format(
            figures="\n".join(f"{number}. {_described(figure)}" for number, figure in enumerate(figures, 1)),
            sentences="\n".join(f"{number}. {sentence}" for number, sentence in enumerate(candidates, 1)),
        )
        answer = self._client.ask([{"role": "user", "content": question}], _References)
        found = [
            UnnumberedMention(figure=said.figure - 1, panel=said.panel, sentence=candidates[said.sentence - 1])
            for said in answer.references
            if 1 <= said.sentence <= len(candidates)
            and 1 <= said.figure <= len(figures)
            and said.panel in {"", *(panel.label for panel in figures[said.figure - 1].panels)}
        ]
        if answer.references and not found:
            raise UnusableAnswer(
                f"none of its {len(answer.references)} references is to one of the {len(figures)} figures and "
                f"{len(candidates)} sentences"
            )
        return list(dict.fromkeys(found))


def find_mentions(
    asked: Mapping[Job, Sequence[Figure]],
    sentences_of: Callable[[Job], Sequence[str]],
    store: PageStore,
    config: TextbookPairsConfig,
    on_done: Callable[[int], None],
) -> dict[Job, Mentions | BadPage]:
    """Asks for the figures of each page; answers lie in the store, and are not asked for again.

    Args:
        asked: The pages, as jobs of the kind `mentions`, with their figures.
        sentences_of: The sentences of a page and its neighbours.
        store: Keeps the answers.
        config: Names the endpoint; as many requests as there are workers are on their way at a time.
        on_done: Hears how many pages are finished.

    Raises:
        ChatUnavailable: The endpoint cannot be reached, stays busy, or refuses this client.
    """
    waiting = [job for job in asked if not store.has(job)]
    on_done(len(asked) - len(waiting))
    if waiting:
        finder = MentionFinder(config)

        def ask(job: Job) -> None:
            try:
                answer: Mentions | BadPage = Mentions(found=finder.find(asked[job], sentences_of(job)))
            except UnusableAnswer as error:
                answer = BadPage(reason="unnumbered_mentions_failed", detail=str(error))
            store.save(job, answer, {})

        for num_done, _ in enumerate(_in_threads(ask, waiting, config.num_workers), len(asked) - len(waiting) + 1):
            on_done(num_done)
    return {job: store.load(job, Mentions) for job in asked}


def _in_threads(ask: Callable[[Job], None], jobs: Sequence[Job], num_threads: int) -> Iterator[None]:
    """One item per finished job. The first that fails ends all: those that wait are not begun."""
    pool = ThreadPoolExecutor(num_threads)
    try:
        on_their_way: set[Future[None]] = set()
        for job in jobs:
            if len(on_their_way) >= _REQUESTS_AHEAD * num_threads:
                done, on_their_way = wait(on_their_way, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            on_their_way.add(pool.submit(ask, job))
        while on_their_way:
            done, on_their_way = wait(on_their_way, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        pool.shutdown(cancel_futures=True)


def _described(figure: Figure) -> str:
    number = f"Figure {figure.number}. " if figure.number else ""
    panels = [f"Panel {panel.label}: {panel.caption}" if panel.label else panel.caption for panel in figure.panels]
    return number + " ".join(panels)
