"""Seconds: of a call, of many calls, and of calls that nobody made yet."""

import math
import statistics
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from time import perf_counter

from reproduction.case import NotRun
from reproduction.rows import Row

# Below this length a first call is cheap on any machine, and is made without asking how long it will take.
_SHORT = 2048
# A length this many times shorter tells how long a call will take.
_PROBE = 8
_LEAST_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How often a call is made: unmeasured first calls, then measured ones."""

    warmups: int
    repeats: int


def timed(call: Callable[[], float], repeats: int) -> Generator[None, None, Row]:
    """The ``summary`` of so many calls, which return their seconds; others take their turns before each."""
    samples: list[float] = []
    while len(samples) < repeats:
        yield
        samples.append(call())
    return summary(samples)


def summary(samples: Sequence[float]) -> Row:
    """Median, quartiles, least and number of ``samples`` (seconds), as the fields of a row."""
    ordered = sorted(samples)
    if len(ordered) == 1:
        q1 = q3 = ordered[0]
    else:
        q1, _, q3 = statistics.quantiles(ordered, n=4, method="inclusive")
    return {
        "median_s": statistics.median(ordered),
        "q1_s": q1,
        "q3_s": q3,
        "min_s": ordered[0],
        "repeats": len(ordered),
    }


def predicted(time: Callable[[int], float], length: int, growth: float) -> float | None:
    """Seconds of a call at ``length``, from two at a shorter one if time grows as length^growth; None for a short length.

    ``time`` gives those of a call at a length.
    """
    if length <= _SHORT:
        return None
    shorter = max(length // _PROBE, _SHORT // 2)
    # The first call sets up its libraries; it would promise too little speed.
    times: float = (length / shorter) ** growth
    return min(time(shorter) for _ in range(2)) * times


def plan(call_s: float, *, max_seconds: float, repeats: int, warmed: bool) -> Plan:
    """As many as ``repeats`` calls as fit into ``max_seconds``, with a warm-up before them if at least three calls fit.

    Raises NotRun if not even one fits.
    """
    fits = int(max_seconds // call_s) if call_s > 0 else repeats + 1
    if fits < 1:
        raise NotRun(f"predicted {call_s:,.0f} s, more than the {max_seconds:,.0f} s that a row may take")
    warmups = 0 if warmed or fits < 3 else 1
    return Plan(warmups=warmups, repeats=max(1, min(repeats, fits - (1 if warmed or warmups else 0))))


def seconds_of(call: Callable[[], object], device: str, least_s: float = _LEAST_S) -> float:
    """Seconds of one call; of a short one the mean over as many as last ``least_s``, lest the clock or a wake-up count."""
    once = _elapsed(call, device, 1)
    if once >= least_s:
        return once
    times = min(math.ceil(least_s / max(once, 1e-9)), 1000)
    return _elapsed(call, device, times) / times


def _elapsed(call: Callable[[], object], device: str, times: int) -> float:
    import torch

    finish: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
    finish()
    began = perf_counter()
    for _ in range(times):
        call()
    finish()
    return perf_counter() - began
