"""Cases that train a model and then measure it: most experiments are lists of these."""

import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from reformer.tasks.config import RunConfig
from reformer.training.card import commits
from reformer.training.loop import TrainingDiverged, train
from reformer.training.metrics import METRICS_FILE, read_metrics
from reformer.training.run_directory import load_model, only_writer
from reproduction.case import Case, NotRun, Place, Stopped
from reproduction.experiments.experiment import short_id
from reproduction.experiments.known_by import earlier_config
from reproduction.rows import Row

Measure = Callable[[Any, Any], tuple[dict[str, float], str]]
"""(columns, protocol) of a trained model on the task's held-out data."""
Curve = Callable[[Any, Any], list[list[float]]]
"""Points [x, y] drawn from a trained model on the task's held-out data."""


def training_case(
    row: str,
    config: RunConfig,
    measure: Measure,
    *,
    measured: dict[str, Any],
    columns: tuple[str, ...] = (),
    curve: Curve | None = None,
) -> Case:
    """Train ``config`` (resuming what is there), then ``measure``; ``measured`` says what of it, for the case's identity.

    ``columns``: those that ``measure`` gives; none: all of the experiment's. Experiments that ask for the same training
    share its run. The curve kept is that of the validation losses over steps, unless ``curve`` draws one.
    """
    # Under the names that the first rows were known by.
    described = {
        name: value for name, value in earlier_config(config.as_dict()).items() if name not in ("seed", "name")
    }

    def run(place: Place) -> Generator[Row | None]:
        directory = place.work / f"{config.name}-{short_id(described)}-seed{config.seed}"
        if not place.resume:
            set_aside(directory)
        try:
            outcome = train(config, directory, cache_dir=place.cache_dir, resume=True, command=place.command)
        except TrainingDiverged as error:
            raise NotRun(str(error)) from error
        if outcome.status == "stopped":
            again = "the same command continues" if place.resume else "the same command without --no-resume continues"
            raise Stopped(f"stopped by {outcome.stopped_by} after step {outcome.step}; {again}")
        run_, model, step = load_model(directory)
        task = config.make_task(place.cache_dir, run_.corpus_directory)
        values, protocol = measure(model, task)
        records = read_metrics(directory / METRICS_FILE)
        trained = [record for record in records if record["kind"] == "train"]
        cost = {
            "steps": step,
            "tokens": step * config.tokens_per_step,
            "seconds": trained[-1]["seconds"] if trained else 0.0,
            "peak_memory_bytes": max((record["peak_memory_bytes"] for record in trained), default=0),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        validation = [[record["step"], record["value"]] for record in records if record["kind"] == "validation"]
        checksums = task.card()["checksums"]
        yield {
            "columns": values,
            "cost": cost,
            "curve": (validation if curve is None else curve(model, task)) or None,
            "protocol": protocol,
            "checksums": checksums if isinstance(checksums, dict) else None,
            "trained_by": commits(directory),
        }

    identity = {"train": described, "measured": measured}
    return Case(row=row, seed=config.seed, config=identity, run=run, columns=columns, training=config)


def set_aside(directory: Path) -> None:
    """Make room for a training from its start; of what was there the last is kept. Raises RunError if it is being trained."""
    if directory.is_dir():
        before = directory.with_name(f"{directory.name}.before")
        with only_writer(directory):
            shutil.rmtree(before, ignore_errors=True)
            directory.rename(before)
