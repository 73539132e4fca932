"""What the commands about a trained run share: finding it, which of its models, and options that depend on what it learned."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reformer.cli.parsing import UsageError, check_checkpoint, option_names

if TYPE_CHECKING:
    from reformer.tasks.config import RunConfig
    from reformer.tasks.protocol import Model
    from reformer.training.run_directory import Run


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which of a run's models, and where its data is kept."""

    checkpoint: str = "latest"
    """latest or best."""
    average: int | None = None
    """Average the newest so many checkpoints; they must have been kept (keep_last)."""
    cache_dir: Path = Path("~/.cache/reformer")
    """Where prepared corpora are kept."""

    def __post_init__(self) -> None:
        check_checkpoint(self.checkpoint, self.average)


def named_run(command: str, arguments: Sequence[str]) -> "Run":
    """The run that the first argument names: what else may be said depends on it.

    Raises UsageError if an option stands there, RunError if there is no run.
    """
    from reformer.training.run_directory import open_run

    if not arguments or arguments[0].startswith("-"):
        named = " ".join([f"reformer {command} RUN", *arguments[:1]])
        raise UsageError(f"name the run first: {named} ...; see reformer {command} --help")
    return open_run(Path(arguments[0]).expanduser())


def load(run: "Run", which: ModelOptions) -> "tuple[Model, int, str]":
    """(the model in evaluation mode, the step of its checkpoint, which weights these are in words)."""
    from reformer.training.run_directory import load_averaged, load_model

    _, model, step = load_model(run.directory, which.checkpoint, say)
    return model, step, load_averaged(model, run.directory, which.average, step)


def task_help(command: str, does: str, own: Any, options_of: "Callable[[type[RunConfig]], type[Any]]") -> str:
    """``reformer COMMAND --help`` where no run is named: the options by what a run was trained on."""
    from reformer.tasks.registry import CONFIGS

    lines = {"every run": option_names(own)} | {name: option_names(options_of(c)) for name, c in CONFIGS.items()}
    width = max(map(len, lines))
    return "\n".join(
        [
            f"usage: reformer {command} RUN [options]",
            "",
            does,
            "",
            f"options, by what the run was trained on (reformer {command} RUN --help explains those that fit a run):",
            *(f"  {name:<{width}}  {' '.join(names)}".rstrip() for name, names in lines.items()),
        ]
    )


def say(line: str) -> None:
    """A line about the work, not its result: to standard error."""
    print(line, file=sys.stderr, flush=True)


def progress(what: str) -> Callable[[int, int], None]:
    """Tells a terminal how many of how many ``what`` are done; anything else nothing."""

    def report(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{done:,} of {total:,} {what}", end=end, file=sys.stderr, flush=True)

    return report
