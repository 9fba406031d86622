"""Draws accuracies with their intervals, subfields, and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from components.evaluation.vqa_benchmarks.scoring import Verdict, accuracy, by_subfield
from pathoflow.data.plots import image_grid
from pathoflow.qa.response import parse

BLANK_COLOUR = "0.65"


def accuracy_bars(scored: Mapping[str, Sequence[Verdict]], chance: float) -> Figure:
    """Draws a bar for each model with its 95 % interval, grey where it saw blank images, and the line of chance."""
    figure = Figure(figsize=(1.2 + 1.3 * len(scored), 4.2))
    axes = figure.subplots()
    for place, (name, verdicts) in enumerate(scored.items()):
        share = accuracy(verdicts)
        error = [[share.value - share.low], [share.high - share.value]]
        colour = BLANK_COLOUR if "blank" in name else f"C{place}"
        axes.bar(place, share.value, yerr=error, capsize=5, color=colour)
        axes.annotate(f"{share.value:.2f}", (place, share.high), ha="center", va="bottom")
    axes.axhline(chance, linestyle="--", color="black", linewidth=1, label=f"chance {chance:.2f}")
    axes.set_xticks(range(len(scored)), list(scored))
    axes.set_ylim(0, 1.08)
    axes.set_ylabel("accuracy")
    num_items = len(next(iter(scored.values())))
    axes.set_title(f"Accuracy on {num_items} held-out questions, with 95 % intervals")
    axes.legend()
    return figure


def subfield_bars(scored: Mapping[str, Sequence[Verdict]], chance: float) -> Figure:
    """Draws a group of bars for each subfield, one for each model, with 95 % intervals."""
    subfields = {
        name: f"{name}\n(n = {len(members)})" for name, members in by_subfield(next(iter(scored.values()))).items()
    }
    figure = Figure(figsize=(max(6.0, 2.0 * len(subfields)), 4.2))
    axes = figure.subplots()
    width = 0.8 / len(scored)
    for number, (model, verdicts) in enumerate(scored.items()):
        shares = [accuracy(members) for members in by_subfield(verdicts).values()]
        errors = [[share.value - share.low for share in shares], [share.high - share.value for share in shares]]
        places = [place + (number - (len(scored) - 1) / 2) * width for place in range(len(shares))]
        axes.bar(places, [share.value for share in shares], width, yerr=errors, capsize=2, label=model)
    axes.axhline(chance, linestyle="--", color="black", linewidth=1, label="chance")
    axes.set_xticks(range(len(subfields)), list(subfields.values()))
    axes.set_ylim(0, 1.08)
    axes.set_ylabel("accuracy")
    axes.set_title("Accuracy by subfield, with 95 % intervals")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def examples(verdicts: Sequence[Verdict], num: int = 12) -> Figure:
    """Shows images, questions, thinking and answers: wrong answers and right ones in turn, as far as there are both."""
    right = [verdict for verdict in verdicts if verdict.correct]
    wrong = [verdict for verdict in verdicts if not verdict.correct]
    num_wrong = min(len(wrong), max(num // 2, num - len(right)))
    shown = [*_spread(wrong, num_wrong), *_spread(right, num - num_wrong)]
    return image_grid(
        [verdict.question.images[0] for verdict in shown], [_words(v) for v in shown], columns=4, width=48, lines=11
    )


def _spread(verdicts: Sequence[Verdict], num: int) -> list[Verdict]:
    """Returns at most `num` of them, evenly spread."""
    num = min(num, len(verdicts))
    return [verdicts[place * len(verdicts) // num] for place in range(num)]


def _words(verdict: Verdict) -> str:
    verdict_word = "RIGHT" if verdict.correct else f"WRONG, it is {verdict.question.answer}"
    thought = parse(verdict.response).thinking
    return "\n".join(
        [
            f"Answer: {verdict.extracted or 'unreadable'} ({verdict_word})",
            f"Thinking: {thought}" if thought else f"Response: {verdict.response}",
            verdict.question.prompt,
        ]
    )
