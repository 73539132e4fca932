"""Learning rates as pure functions of the step, t = 1, 2, ...; w is the warm-up in steps (0 for none)."""

import math
from collections.abc import Callable
from functools import partial


def paper_schedule(step: int, *, lr: float, warmup_steps: int) -> float:
    """lr * min(t, w)/w * 1/sqrt(max(t, w)): linear warm-up, then rsqrt decay, as the authors' code (2019) has it.

    The peak, at t = w, is lr/sqrt(w): the paper's lr is 2.0 with w = 8000. Raises ValueError for t < 1 or w < 0.
    """
    return lr * _warmup(step, warmup_steps) / math.sqrt(max(step, warmup_steps))


def cosine_schedule(step: int, *, lr: float, warmup_steps: int, total_steps: int, final_fraction: float) -> float:
    """Linear warm-up to lr, then half a cosine down to lr * f at t = T, and constant after it.

    lr * (f + (1 - f) * (1 + cos(pi * (t - w)/(T - w)))/2), f = ``final_fraction``, T = ``total_steps``.
    Raises ValueError for t < 1, w < 0, T < 1 or f outside [0, 1].
    """
    if total_steps < 1 or not 0 <= final_fraction <= 1:
        raise ValueError(
            f"expected total_steps >= 1 and final_fraction in [0, 1], got {total_steps} and {final_fraction}"
        )
    warmup = _warmup(step, warmup_steps)
    done = min(max(step - warmup_steps, 0) / max(total_steps - warmup_steps, 1), 1.0)
    return lr * warmup * (final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * done)) / 2)


def constant_schedule(step: int, *, lr: float, warmup_steps: int) -> float:
    """lr * min(t, w)/w: linear warm-up to lr, then lr. Raises ValueError for t < 1 or w < 0."""
    return lr * _warmup(step, warmup_steps)


def learning_rate(
    name: str, step: int, *, lr: float, warmup_steps: int, total_steps: int, final_fraction: float
) -> float:
    """The schedule called ``name`` at ``step``: "rsqrt", "cosine" or "constant". Raises ValueError for another name."""
    schedules: dict[str, Callable[..., float]] = {
        "rsqrt": paper_schedule,
        "cosine": partial(cosine_schedule, total_steps=total_steps, final_fraction=final_fraction),
        "constant": constant_schedule,
    }
    if name not in schedules:
        raise ValueError(f"unknown schedule {name!r}; choose one of {', '.join(schedules)}")
    return schedules[name](step, lr=lr, warmup_steps=warmup_steps)


def _warmup(step: int, warmup_steps: int) -> float:
    if step < 1 or warmup_steps < 0:
        raise ValueError(f"expected step >= 1 and warmup_steps >= 0, got {step} and {warmup_steps}")
    return min(step / warmup_steps, 1.0) if warmup_steps else 1.0
