"""The ``reformer`` command: finds the subcommand, and turns expected failures into one clear line.

Nothing heavy is imported before a subcommand is known, so that ``reformer --help`` answers at once.
"""

import importlib
import sys

COMMANDS = {
    "train": "train a recipe: reformer train quickstart",
    "eval": "bits per byte of a run, beside gzip, bzip2 and xz",
    "inspect": "what a run's attention sees: buckets, recall of full attention, distances",
    "generate": "continue a prompt with a trained run",
    "images": "draw or complete pictures with a run trained on pictures",
    "convert": "another Reformer's checkpoint as a model of ours",
    "data": "prepare a corpus: enwik8, or any file or folder",
    "demo": "train, evaluate and sample in one go (what `make demo` runs)",
    "bench": "time and memory beside other Reformers and full attention",
    "reproduce": "a table or figure of the paper, measured here",
    "report": "all results beside the paper's, as a document and a page",
    "env": "the machine and the versions, as a run's card records them",
}
USAGE_ERROR = 2
FAILED = 1


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code: 0 done, 1 failed, 2 bad usage or input (one line on standard error)."""
    arguments = sys.argv[1:] if argv is None else argv
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
    if command not in COMMANDS:
        return _unknown(command)
    try:
        return importlib.import_module(f"reformer.cli.{command}_command").run(rest)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        sys.stdout = None
        return 0
    except Exception as error:
        code = _exit_code(error)
        if code is None or traceback_wanted:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return code


def _exit_code(error: Exception) -> int | None:
    """2 for bad input, 1 for a run that failed, None for a defect of ours, which shows its traceback."""
    from reformer.experiments.running import LinesNotRun
    from reformer.training.checkpoint import CheckpointError
    from reformer.training.loop import TrainingDiverged

    if isinstance(error, TrainingDiverged | LinesNotRun):
        return FAILED
    if isinstance(error, ValueError | TypeError | OSError | CheckpointError):
        return USAGE_ERROR
    if isinstance(error, ModuleNotFoundError) and error.name in (
        "tyro",
        "rich",
        "matplotlib",
        "zstandard",
        "markdown_it",
        "PIL",
    ):
        error.args = (f"this command needs {error.name}: pip install 'reformer-torch[train]'",)
        return USAGE_ERROR
    if isinstance(error, ModuleNotFoundError) and error.name == "transformers":
        error.args = ("this command needs transformers: pip install 'reformer-torch[hf]'",)
        return USAGE_ERROR
    return None


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
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


def _unknown(command: str) -> int:
    import difflib

    near = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    print(f"error: unknown command {command!r}; {hint}commands: {', '.join(COMMANDS)}", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
