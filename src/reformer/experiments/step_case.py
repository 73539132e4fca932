"""Cases that measure training steps, each model in a process of its own: seconds and activation memory."""

from __future__ import annotations

import dataclasses
from statistics import median

import torch

from reformer.bench.worker import Worker
from reformer.models import ReformerConfig
from reformer.training.environment import chosen_device

_REPEATS = 3


@dataclasses.dataclass(frozen=True)
class StepCost:
    """Median seconds of a training step after a first one, and bytes of its activations and of the whole process."""

    seconds: float
    activation_bytes: int
    peak_bytes: int


def measure_step(
    config: ReformerConfig, *, seq_len: int, batch: int = 1, optimizer: str = "adam", repeats: int = _REPEATS
) -> StepCost:
    """One model on random tokens in a fresh process; ``repeats`` 0: the first step is the one timed.

    Raises ``bench.timing.NotRun`` if the process fails or is killed for its memory.
    """
    device = chosen_device("auto").type
    with Worker(
        "reformer.bench.training_step:TrainingStep",
        contender="reformer",
        config=dataclasses.asdict(config),
        batch=batch,
        seq_len=seq_len,
        dtype="bfloat16" if device == "cuda" else "float32",
        optimizer=optimizer,
        device=device,
        threads=torch.get_num_threads(),
    ) as worker:
        first = worker.call("time")
        seconds = median([worker.call("time") for _ in range(repeats)]) if repeats else first
        report = worker.call("report")
    return StepCost(seconds, report["activation_bytes"], report["peak_bytes"])
