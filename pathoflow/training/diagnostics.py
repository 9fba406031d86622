"""Diagnoses a training by its figures, and says what to do."""

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
    """Loss or gradients became NaN or infinite."""


def not_a_number(step: int, loss: float, gradient_norm: float | None) -> str | None:
    """Returns the remedy for a loss or gradient that is NaN or infinite; None while both are finite.

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
    """Returns the remedy for a rising loss; None while it falls or wavers.

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
    """Returns the remedy for processes that wait for data; None if they hardly do, or no cores are idle.

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
