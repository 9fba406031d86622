"""What the figures of a training say to a person who watches it, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from pathoflow.errors import StageError

_MIN_POINTS = 12
_WINDOW = 4
# A loss that has doubled and risen by a nat is no noise of small batches.
_RISE_RATIO, _RISE_NATS = 2.0, 1.0
_MAX_WAIT_SHARE = 0.1
_MIN_INTERVAL_S = 5.0


class NotANumberError(StageError):
    """The loss or the gradients are no numbers any more."""


def not_a_number(step: int, loss: float, gradient_norm: float | None) -> str | None:
    """What to do about a loss or gradient that is no number any more; None while both are.

    >>> not_a_number(7, 2.5, 0.3)
    >>> not_a_number(7, float("nan"), 0.3)[:38]
    'The loss is nan at step 7: the weights'
    """
    for name, value in (("loss", loss), ("norm of the gradients", gradient_norm)):
        if value is not None and not math.isfinite(value):
            return (
                f"The {name} is {value} at step {step}: the weights are lost, and training on would only cost time. "
                "The last checkpoint is from before. Lower learning_rate, raise warmup_ratio or lower "
                "max_gradient_norm; if it comes at the very first step, look at the data and the base model."
            )
    return None


def divergence(losses: Sequence[float]) -> str | None:
    """What to do about a loss that climbs; None while it falls or wavers.

    >>> divergence([3.0, 2.0] + [1.0] * 10)
    >>> divergence([3.0, 2.0] + [1.0] * 10 + [4.0] * 4)
    'the loss rose from 1.00 to 4.00: lower learning_rate, raise warmup_ratio or clip with max_gradient_norm'
    """
    if len(losses) < _MIN_POINTS:
        return None
    windows = [median(losses[end - _WINDOW : end]) for end in range(_WINDOW, len(losses) + 1)]
    lowest, last = min(windows), windows[-1]
    if last < lowest * _RISE_RATIO or last < lowest + _RISE_NATS:
        return None
    return (
        f"the loss rose from {lowest:.2f} to {last:.2f}: lower learning_rate, raise warmup_ratio or clip with "
        "max_gradient_norm"
    )


def starvation(wait_share: float, interval_s: float, data_workers: int, idle_cores: int) -> str | None:
    """What to do about processes that wait for data; None while they hardly do, or where nothing can be done.

    >>> starvation(0.4, 60.0, 2, idle_cores=8)
    '40 % of the time goes into waiting for data: raise data_workers above 2'
    >>> starvation(0.4, 0.2, 2, idle_cores=8)
    >>> starvation(0.4, 60.0, 2, idle_cores=0)
    """
    if wait_share < _MAX_WAIT_SHARE or interval_s < _MIN_INTERVAL_S or idle_cores <= 0:
        return None
    return f"{wait_share:.0%} of the time goes into waiting for data: raise data_workers above {data_workers}".replace(
        "%", " %"
    )
