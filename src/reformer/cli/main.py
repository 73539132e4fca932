"""The ``reformer`` command: finds the subcommand, and turns expected failures into one clear line.

A command is a function ``run(arguments) -> exit code`` of a module of its own, imported when it is the one asked for: so
``reformer --help`` answers at once. (tyro, given all commands, would have to see the options of each before it parsed any.)
"""

import importlib
import sys
from collections.abc import Callable, Sequence

COMMANDS: dict[str, tuple[str, str | None]] = {
    "train": ("train a recipe: reformer train quickstart", "reformer.cli.train_command"),
    "eval": ("bits per byte of a run, beside gzip, bzip2 and xz", "reformer.cli.eval_command"),
    "inspect": (
        "what a run's attention sees: buckets, recall of full attention, distances",
        "reformer.cli.inspect_command",
    ),
    "generate": ("continue a prompt with a trained run", "reformer.cli.generate_command"),
    "images": ("draw or complete pictures with a run trained on pictures", "reformer.cli.images_command"),
    "convert": ("another Reformer's checkpoint as a model of ours", "reformer.cli.convert_command"),
    "data": ("prepare a corpus: enwik8, or any file or folder", "reformer.cli.data_command"),
    "demo": ("train, evaluate and sample in one go (what `make demo` runs)", "reformer.cli.demo_command"),
    "bench": ("time and memory beside other Reformers and full attention", None),
    "reproduce": ("a table or figure of the paper, measured here", None),
    "report": ("all results beside the paper's, as a document and a page", None),
    "env": ("the machine and the versions, as a run's card records them", "reformer.cli.env_command"),
}
"""What each does, and the module whose ``run`` it is; None: of another distribution."""
ENTRY_POINTS = "reformer.commands"
"""Group of the entry points by which another distribution (reproduction/) brings the commands that are not here."""
USAGE_ERROR = 2
FAILED = 1
# What an extra brings: the package that was missed, and the extra.
_EXTRA_OF = {
    **dict.fromkeys(("tyro", "rich", "matplotlib", "zstandard", "markdown_it", "PIL"), "train"),
    "transformers": "hf",
}

Command = Callable[[Sequence[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code: 0 done, 1 failed, 2 bad usage or input (one line on standard error)."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    traceback_wanted = arguments[:1] == ["--traceback"]
    arguments = arguments[traceback_wanted:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else USAGE_ERROR
    if arguments[0] in ("-V", "--version"):
        from reformer import __version__

        print(f"reformer-torch {__version__}")
        return 0
    command, *rest = arguments
    try:
        return _find(command)(rest)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        sys.stdout = None
        return 0
    except Exception as error:
        code, message = _outcome(error)
        if code is None or traceback_wanted:
            raise
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        return code


def _find(command: str) -> Command:
    """The command's ``run``. Raises UsageError for one that is unknown, or not installed with the library."""
    from reformer.cli.parsing import UsageError

    if command not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown command {command!r}; {hint}commands: {', '.join(COMMANDS)}")
    _, module = COMMANDS[command]
    if module is not None:
        run: Command = importlib.import_module(module).run
        return run
    from importlib.metadata import entry_points

    for found in entry_points(group=ENTRY_POINTS, name=command):
        run = found.load()
        return run
    raise UsageError(
        f"reformer {command} measures, and is not part of the library; from a checkout: "
        "pip install -c constraints.txt -e '.[train,reproduction]' -e ./reproduction"
    )


def _outcome(error: Exception) -> tuple[int | None, str]:
    """(2 for bad input, 1 for a run that failed, None for a defect of ours, which shows its traceback; the line to print)."""
    if isinstance(error, ValueError | TypeError | OSError):
        return USAGE_ERROR, str(error)
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRA_OF.get(error.name or "")
        code = None if extra is None else USAGE_ERROR
        return code, f"this command needs {error.name}: pip install 'reformer-torch[{extra}]'"
    from reformer.training.checkpoint import CheckpointError
    from reformer.training.loop import TrainingDiverged

    if isinstance(error, TrainingDiverged):
        return FAILED, str(error)
    return USAGE_ERROR if isinstance(error, CheckpointError) else None, str(error)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (what, _) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: reformer [--traceback] COMMAND ...",
            "",
            "Train, evaluate and sample Reformers on long sequences.",
            "",
            *lines,
            "",
            "reformer COMMAND --help tells more; --version prints the version; --traceback shows where an error arose.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
