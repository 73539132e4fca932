"""Seconds: of a call, of many calls, and of calls that nobody made yet."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from reproduction.case import NotRun
from reproduction.rows import Row

# Below this length a first call is cheap on any machine, and is made without asking how long it will take.
_SHORT = 2048
# A length this many times shorter tells how long a call will take, when no shorter one has been timed.
_PROBE = 8
_LEAST_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How often a call is made: unmeasured first calls, then measured ones."""

    warmups: int
    repeats: int


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


def predict(history: Sequence[tuple[int, float]], length: int, growth: float) -> float | None:
    """Seconds of a call at ``length`` from (length, seconds) of shorter ones; None without any.

    Grows as length^growth, or, with two shorter ones, as it grew between them, within linear and quadratic.
    """
    shorter = sorted(point for point in history if point[0] < length)
    if not shorter:
        return None
    last_length, last = shorter[-1]
    if len(shorter) > 1 and min(last, shorter[-2][1]) > 0:
        before_length, before = shorter[-2]
        growth = min(max(math.log(last / before) / math.log(last_length / before_length), 1.0), 2.0)
    return last * (length / last_length) ** growth


def probe_length(length: int) -> int | None:
    """The shorter length to try first when nothing is known about ``length``; None if it can be tried itself."""
    return None if length <= _SHORT else max(length // _PROBE, _SHORT // 2)


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
    elapsed = _elapsed_cpu if device == "cpu" else _elapsed_cuda
    once = elapsed(call, 1)
    if once >= least_s:
        return once
    times = min(math.ceil(least_s / max(once, 1e-9)), 1000)
    return elapsed(call, times) / times


def _elapsed_cpu(call: Callable[[], object], times: int) -> float:
    began = perf_counter()
    for _ in range(times):
        call()
    return perf_counter() - began


def _elapsed_cuda(call: Callable[[], object], times: int) -> float:
    import torch

    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    for _ in range(times):
        call()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000
