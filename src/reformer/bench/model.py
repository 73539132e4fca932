"""``reformer bench model``: a whole training step of our model beside transformers' of the same sizes.

Each model lives in a process of its own and keeps its weights; the processes take turns, one step each, in an order drawn
anew for each round. Peak memory is that of the process from before the model was built.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reformer.bench.contenders import INSTALL, bfloat16_obstacle, require_dtype, require_known
from reformer.bench.rows import Row, RowFile
from reformer.bench.shapes import SHAPES
from reformer.bench.timing import NotRun, interleave, plan, summary
from reformer.bench.training_step import MODELS
from reformer.bench.worker import Worker
from reformer.models import ReformerConfig

_ORDER_SEED = 0
_START_S = 120
STEP = "training step"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What to measure. Options given beside --preset change it."""

    preset: str = "6-layers"
    """The model: see reformer bench model --help."""
    contenders: tuple[str, ...] = tuple(MODELS)
    dtype: tuple[str, ...] = ("float32", "bfloat16")
    """float32, or autocast to another one over float32 weights (on CPUs with units for it)."""
    batch: int = 1
    optimizer: str = "adam"
    repeats: int = 5
    max_seconds: float = 300.0
    """What one row may take: fewer steps if they do not fit."""
    device: str = "auto"
    threads: int | None = None
    """CPU threads; default: torch's."""
    out: Path | None = None
    """Rows are appended to this file; those that it already holds for this commit and machine are not measured again."""

    def __post_init__(self) -> None:
        for name in self.contenders:
            require_known(name, list(MODELS))
        for name in self.dtype:
            require_dtype(name)
        if self.repeats < 1:
            raise ValueError(f"--repeats must be at least 1, got {self.repeats}")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One row to be: a model and how it is trained."""

    benchmark: str
    contender: str
    model: str
    config: ReformerConfig
    batch: int
    seq_len: int
    dtype: str
    optimizer: str
    device: str
    threads: int

    def what(self) -> Row:
        """The fields that say what was measured."""
        fields = {
            name: getattr(self, name) for name in ("benchmark", "contender", "model", "batch", "seq_len", "dtype")
        }
        run = {name: getattr(self, name) for name in ("optimizer", "device", "threads")}
        shape = {
            "layers": len(self.config.attention),
            "reversible": self.config.reversible,
            "d_model": self.config.d_model,
        }
        return {**fields, "direction": STEP, **shape, **run, "n_hashes": self.config.n_hashes}

    def worker(self) -> Worker:
        """Its process."""
        return Worker(
            "reformer.bench.training_step:TrainingStep",
            contender=self.contender,
            config=dataclasses.asdict(self.config),
            batch=self.batch,
            seq_len=self.seq_len,
            dtype=self.dtype,
            optimizer=self.optimizer,
            device=self.device,
            threads=self.threads,
        )

    def absence(self) -> str | None:
        """Why it cannot be measured here; None if it can."""
        if self.contender == "transformers" and find_spec("transformers") is None:
            return f"transformers is {INSTALL}"
        return bfloat16_obstacle(self.device) if self.dtype == "bfloat16" else None


def measure_model(
    options: ModelOptions, file: RowFile, device: str, threads: int, say: Callable[[str], None]
) -> list[Row]:
    """All rows that ``options`` ask for."""
    config, length = SHAPES[options.preset]()
    rows = []
    for dtype in options.dtype:
        steps = [
            Step(
                benchmark="model",
                contender=name,
                model=options.preset,
                config=config,
                batch=options.batch,
                seq_len=length,
                dtype=dtype,
                optimizer=options.optimizer,
                device=device,
                threads=threads,
            )
            for name in options.contenders
        ]
        rows += measure_steps(steps, file, repeats=options.repeats, max_seconds=options.max_seconds, say=say)
    return rows


def measure_steps(
    steps: list[Step],
    file: RowFile,
    *,
    repeats: int,
    max_seconds: float,
    say: Callable[[str], None],
    warm_up: bool = True,
) -> list[Row]:
    """The rows of ``steps``, which take turns. Without ``warm_up`` the first step of a process is the one timed."""
    rows: dict[Step, Row] = {step: row for step in steps if (row := file.finished(step.what())) is not None}
    workers = {step: step.worker() for step in steps if step not in rows}
    patience = 3 * max_seconds + _START_S

    def add(step: Step, measured: Row) -> None:
        rows[step] = file.add(step.what(), {"timed": MODELS[step.contender], **measured})
        say(describe_step(rows[step]))

    def finish(step: Step, samples: list[float]) -> None:
        report = workers[step].call("report", timeout=patience)
        speed = step.batch * step.seq_len / summary(samples)["median_s"]
        add(step, {**summary(samples), "warmups": int(warm_up), "tokens_per_second": speed, **report})

    def fail(step: Step, reason: NotRun) -> None:
        add(step, {"not_run": str(reason)})

    counts = {}
    try:
        for step, worker in workers.items():
            try:
                counts[step] = _repeats(step, worker, repeats, max_seconds, patience) if warm_up else repeats
            except NotRun as reason:
                fail(step, reason)
        interleave(
            {step: partial(workers[step].call, "time", timeout=patience) for step in counts},
            counts,
            seed=_ORDER_SEED,
            finished=finish,
            failed=fail,
        )
    finally:
        for worker in workers.values():
            worker.close()
    return [rows[step] for step in steps]


def _repeats(step: Step, worker: Any, repeats: int, max_seconds: float, patience: float) -> int:
    absence = step.absence()
    if absence is not None:
        raise NotRun(absence)
    first = worker.call("time", timeout=patience)
    return plan(first, max_seconds=max_seconds, repeats=repeats, warmed=True).repeats


def describe_step(row: Row) -> str:
    """A row as a line of progress."""
    kind = "reversible" if row["reversible"] else "ordinary"
    what = f"{row['model']}, {row['layers']} layers ({kind}), L={row['seq_len']:,}, {row['dtype']}: {row['contender']}"
    if "not_run" in row:
        return f"{what}: not run: {row['not_run']}"
    memory = f"peak {row['peak_bytes'] / 2**30:.2f} GiB, activations {row['activation_bytes'] / 2**30:.2f} GiB"
    return f"{what}: {row['median_s']:.4g} s a step, {row['tokens_per_second']:,.0f} tokens/s, {memory}"
