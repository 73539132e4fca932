"""What the commands about a trained run share: finding it, which of its models, and options that depend on what it learned."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from reformer.cli.parsing import UsageError, option_names, parse_beside

if TYPE_CHECKING:
    from reformer.training.run_directory import Run

O = TypeVar("O")


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
        if self.checkpoint not in ("latest", "best"):
            raise UsageError(f"--checkpoint must be latest or best, got {self.checkpoint!r}")
        if self.average is not None and self.checkpoint != "latest":
            raise UsageError(
                f"--average {self.average} is of the newest checkpoints: leave --checkpoint {self.checkpoint} or --average out"
            )


def parse_for_run(command: str, arguments: Sequence[str], own: O, task_options: str, does: str) -> "tuple[Run, O, Any]":
    """(the run that the first argument names, ``own`` as the others change it, and the options that fit the run's task).

    ``task_options`` is the attribute of a config that has the class of these. Prints help and exits on --help. Raises
    UsageError if an option stands first, RunError if there is no run.
    """
    from reformer.training.run_directory import open_run

    if arguments[:1] in (["-h"], ["--help"]):
        print(_help(command, own, task_options, does))
        sys.exit(0)
    if not arguments or arguments[0].startswith("-"):
        named = " ".join([f"reformer {command} RUN", *arguments[:1]])
        raise UsageError(f"name the run first: {named} ...; see reformer {command} --help")
    run = open_run(Path(arguments[0]).expanduser())
    fitting = getattr(run.config, task_options)()
    prog = f"reformer {command} {arguments[0]}"
    return run, *parse_beside(own, fitting, arguments[1:], prog=prog, description=does)


def load(run: "Run", which: ModelOptions) -> "tuple[Any, int, str]":
    """(the model, which its config makes, in evaluation mode, the step of its checkpoint, which weights these are in words)."""
    from reformer.training.run_directory import load_averaged, load_model

    _, model, step = load_model(run.directory, which.checkpoint, say)
    return model, step, load_averaged(model, run.directory, which.average, step)


def say(line: str) -> None:
    """A line about the work, not its result: to standard error."""
    print(line, file=sys.stderr, flush=True)


def progress(what: str) -> Callable[[int, int | None], None]:
    """Tells a terminal how many of how many ``what`` are done; anything else nothing."""

    def report(done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            of = "" if total is None else f" of {total:,}"
            print(f"\r{done:,}{of} {what}", end=end, file=sys.stderr, flush=True)

    return report


def _help(command: str, own: Any, task_options: str, does: str) -> str:
    from reformer.tasks.registry import CONFIGS

    lines = {"any": option_names(own)} | {
        name: option_names(getattr(config, task_options)) for name, config in CONFIGS.items()
    }
    width = max(map(len, lines))
    return "\n".join(
        [
            f"usage: reformer {command} RUN [options]\n\n{does}\n",
            f"options by what the run was trained on, which reformer {command} RUN --help explains:",
            *(f"  {name:<{width}}  {' '.join(names)}" for name, names in lines.items() if names),
        ]
    )
