"""Does a longer context help? The trained models of ``baselines``, evaluated with windows of growing length.

    reformer reproduce context --scale laptop

Each byte of the same test bytes is scored once, with the context its window gives it; so columns differ in context, and with
LSH layers in the number of buckets too, which is chosen by the length of the window. The curve is that of the longest
windows: bits per byte of the bytes at each position of a window, those up to twice as far together.
The trainings are those of ``baselines`` and are shared with it.
Hardware and time for each line and seed: those of ``baselines`` at every scale, or of evaluation alone (minutes) after it.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count, takewhile
from typing import Any

from reformer.tasks.text import TextTask
from reproduction.case import Case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line, seeds_of
from reproduction.experiments.positions import evaluate_positions
from reproduction.experiments.text_models import BITS, NOTES, TEST_BYTES, text_config
from reproduction.experiments.training_case import training_case

_LENGTHS = {"smoke": (64, 256), "laptop": (512, 2048, 8192), "gpu": (2048, 16_384), "paper": (512, 4096, 65_536)}
_KINDS = {"lsh + local": "lsh", "local only": "local", "full + local": "full"}


def cases(scale: str, seed: int) -> list[Case]:
    """One training for each kind of attention, evaluated at every length."""
    lengths = _LENGTHS[scale]

    def measure(model: Any, task: Any) -> tuple[dict[str, float], str]:
        assert isinstance(task, TextTask)
        columns = {}
        for length in lengths:
            shorter = TextTask(replace(task.config, seq_len=length), task.corpus)
            columns[f"{length:,}"] = shorter.evaluate(model, "test", TEST_BYTES[scale]).value
        return columns, f"first {TEST_BYTES[scale]:,} test bytes, disjoint windows, no carried context"

    def by_position(model: Any, task: Any) -> list[list[float]]:
        assert isinstance(task, TextTask)
        points = evaluate_positions(task, model, "test", TEST_BYTES[scale], _position_edges(task.config.seq_len))
        return [[float(position), value] for position, value in points]

    measured = {"test bytes": TEST_BYTES[scale], "lengths": lengths}
    columns = tuple(f"{length:,}" for length in lengths)
    return [
        training_case(
            row, text_config(scale, seed, kind=kind), measure, measured=measured, columns=columns, curve=by_position
        )
        for row, kind in _KINDS.items()
    ]


def _position_edges(length: int) -> list[int]:
    """Powers of two from 64 on, and the length itself."""
    return [*takewhile(lambda edge: edge < length, (64 << index for index in count())), length]


def finding(lines: Mapping[str, Line]) -> list[str]:
    """What the longest window gains over the shortest."""
    found = []
    for name, line in lines.items():
        short, *_, long = (f"{length:,}" for length in _LENGTHS[line.scale])
        from_, to = line.cell(short), line.cell(long)
        if from_ and to:
            found.append(
                f"{name}: windows of {long} bytes beside {short}: {to.mean - from_.mean:+.3f} bits per byte "
                f"({seeds_of([line])})."
            )
    return found


EXPERIMENT = Experiment(
    name="context",
    title="Context: bits per byte by the length of the evaluation window (columns, in bytes)",
    **BITS,
    columns=tuple(dict.fromkeys(f"{length:,}" for lengths in _LENGTHS.values() for length in lengths)),
    cases=cases,
    seeds={"smoke": 1, "laptop": 3, "gpu": 3, "paper": 1},
    notes=NOTES,
    curve=("position in the window, up to", "bits per byte"),
    log_axes="x",
    finding=finding,
    headline=("lsh + local", "8,192"),
)
