"""Cases that measure training steps: seconds and activation memory.

On a CPU each model has a process of its own, whose memory is measured; on a GPU torch counts the bytes of the tensors.
"""

from __future__ import annotations

import dataclasses
from statistics import median

import torch

from reformer.bench.worker import subject_on
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
    """One model on random tokens; ``repeats`` 0: on a CPU the first step is the one timed, elsewhere it compiles kernels.

    Raises ``bench.timing.NotRun`` if the step fails or its memory does not suffice.
    """
    device = chosen_device("auto").type
    repeats = max(repeats, int(device != "cpu"))
    with subject_on(
        device,
        "reformer.bench.training_step:TrainingStep",
        contender="reformer",
        config=dataclasses.asdict(config),
        batch=batch,
        seq_len=seq_len,
        dtype="bfloat16" if device == "cuda" else "float32",
        optimizer=optimizer,
        threads=torch.get_num_threads(),
    ) as subject:
        first = subject.call("time")
        seconds = median([subject.call("time") for _ in range(repeats)]) if repeats else first
        report = subject.call("report")
    return StepCost(seconds, report["activation_bytes"], report["peak_bytes"])
