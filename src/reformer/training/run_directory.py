"""The folder of a run: its config, its one writer, and how a finished or interrupted run is opened again.

``config.json`` (the whole config, the command, where the prepared corpus lies), ``metrics.jsonl``, ``tensorboard/``,
``checkpoints/``, ``plots/``, ``card.json`` and ``card.md``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer.models import ReformerLM
from reformer.tasks.config import RunConfig, differences
from reformer.tasks.protocol import Model
from reformer.tasks.registry import config_from_dict
from reformer.training.checkpoint import average_checkpoints, latest_checkpoint, read_checkpoint, write_durably

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"


class RunError(ValueError):
    """A run folder that cannot be used as asked; the message is one line."""


@dataclass(frozen=True)
class Run:
    """An existing run: its config, where its corpus was prepared, and its folder."""

    directory: Path
    config: RunConfig
    corpus_directory: Path | None


def open_run(directory: Path) -> Run:
    """The run in ``directory``. Raises RunError if there is none."""
    directory = Path(directory)
    path = directory / CONFIG_FILE
    try:
        document = json.loads(path.read_text())
        corpus = document["corpus_directory"]
        config = config_from_dict(document["config"])
    except FileNotFoundError:
        raise RunError(f"{directory} holds no run ({CONFIG_FILE} is missing); {_others(directory)}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read as a run's config: {' '.join(str(error).split())}") from error
    return Run(directory, config, None if corpus is None else Path(corpus))


def claim(directory: Path, config: RunConfig, *, resume: bool) -> Run | None:
    """None for a new run, or the existing one to resume.

    Raises RunError if a run is there and ``resume`` is off, or if its config differs from ``config``.
    """
    if not (directory / CONFIG_FILE).exists():
        return None
    if not resume:
        raise RunError(
            f"{directory} already holds a run; continue it with --resume, or choose another folder with --out"
        )
    run = open_run(directory)
    changed = differences(run.config.as_dict(), config.as_dict())
    if changed:
        raise RunError(
            f"{directory} was started with another config ({'; '.join(changed[:3])}"
            f"{'; ...' if len(changed) > 3 else ''}); drop those overrides to resume it, or work in another folder"
        )
    return run


def write_config(directory: Path, config: RunConfig, command: list[str], corpus_directory: Path | None) -> None:
    """Write ``config.json``."""
    document: dict[str, Any] = {
        "config": config.as_dict(),
        "command": command,
        "corpus_directory": None if corpus_directory is None else str(corpus_directory.resolve()),
    }
    write_durably(directory / CONFIG_FILE, (json.dumps(document, indent=2) + "\n").encode())


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Hold the run's lock; the system frees it when the process ends, however it ends. Raises RunError if it is taken."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another process is training in {directory}; wait for it or work in another folder"
            ) from None
        yield


def load_trained(
    directory: Path, which: str = "latest", notice: Callable[[str], None] = print
) -> tuple[Run, ReformerLM, int]:
    """``load_model`` of a run that trained a language model. Raises RunError for one that translates."""
    run, model, step = load_model(directory, which, notice)
    if not isinstance(model, ReformerLM):
        raise RunError(
            f"{directory} holds a model that translates; measure it with: reformer eval {directory}; "
            f"translate with: reformer generate {directory} --prompt TEXT"
        )
    return run, model, step


def load_model(directory: Path, which: str = "latest", notice: Callable[[str], None] = print) -> tuple[Run, Model, int]:
    """(run, model in evaluation mode, step) of the "latest" or "best" checkpoint; damaged ones are told of and passed over.

    Raises RunError if there is no usable checkpoint.
    """
    run = open_run(directory)
    root = run.directory / CHECKPOINTS
    checkpoint = latest_checkpoint(root, notice)
    if checkpoint is None:
        raise RunError(
            f"{run.directory} has no usable checkpoint yet; train it: reformer train ... --out {directory} --resume"
        )
    if which != "latest" and (best := checkpoint.state.get("best_step")) is not None:
        checkpoint = read_checkpoint(root / f"step-{best:08d}")
    model = run.config.make_model()
    model.load_state_dict(checkpoint.tensors["model"])
    return run, model.eval(), checkpoint.step


def load_averaged(model: Model, directory: Path, n: int | None, step: int) -> str:
    """Load the mean of the newest ``n`` checkpoints into ``model``, which holds that of ``step`` (None: leave it); which it is.

    Raises ValueError for fewer than ``n`` checkpoints.
    """
    if n is None:
        return f"checkpoint of step {step}"
    weights, steps = average_checkpoints(directory / CHECKPOINTS, n)
    model.load_state_dict(weights)
    return f"mean of the checkpoints of steps {', '.join(map(str, steps))}"


def _others(directory: Path) -> str:
    with contextlib.suppress(OSError):
        for folder, where in ((directory, "in"), (directory.parent, "beside")):
            runs = sorted(str(path.parent) for path in folder.glob(f"*/{CONFIG_FILE}"))
            if runs:
                return f"runs {where} it: {', '.join(runs)}"
    return "start one with: reformer train quickstart"
