"""Learning rates as pure functions of the step, t = 1, 2, ...; w is the warm-up in steps (0 for none)."""

import math

from reformer.tasks.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """The learning rate at step t of T: a linear warm-up, min(t, w)/w, times what the config's schedule says.

    "rsqrt": lr / sqrt(max(t, w)), as the authors' code (2019) has it; the peak, at t = w, is lr/sqrt(w): the paper's lr is
    2.0 with w = 8000. "cosine": lr * (f + (1 - f) * (1 + cos(pi * (t - w)/(T - w)))/2), f the final fraction, and lr * f
    after T. "constant": lr. Raises ValueError for t < 1.
    """
    if step < 1:
        raise ValueError(f"expected step >= 1, got {step}")
    w, f = config.warmup_steps, config.final_fraction
    lr = config.lr * (min(step / w, 1.0) if w else 1.0)
    if config.schedule == "rsqrt":
        return lr / math.sqrt(max(step, w))
    if config.schedule == "cosine":
        done = min(max(step - w, 0) / max(total_steps - w, 1), 1.0)
        return lr * (f + (1 - f) * (1 + math.cos(math.pi * done)) / 2)
    return lr
