"""``reformer eval RUN``: what the run's task measures on held-out data, with its protocol, beside its yardsticks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reformer.cli.parsing import parse_beside
from reformer.cli.runs import ModelOptions, load, named_run, progress, task_help

if TYPE_CHECKING:
    from reformer.tasks.config import EvalOptions
    from reformer.tasks.protocol import Evaluated
    from reformer.training.run_directory import Run

DESCRIPTION = """Measure a trained run: bits per byte of text beside gzip, bzip2 and xz, bits per dim of pictures, BLEU of
translations, accuracy of what can be right or wrong."""


def run(arguments: Sequence[str]) -> int:
    """Parse, evaluate, print the table and keep it in the run's eval.json and card."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(task_help("eval", DESCRIPTION, ModelOptions, lambda config: config.eval_options))
        return 0
    run_ = named_run("eval", arguments)
    which, options = parse_beside(
        ModelOptions(),
        run_.config.eval_options(),
        arguments[1:],
        prog=f"reformer eval {arguments[0]}",
        description=DESCRIPTION,
    )
    evaluate_run(run_, options, which, ["reformer", "eval", *arguments])
    return 0


def evaluate_run(run: "Run", options: "EvalOptions", which: ModelOptions, command: list[str]) -> list["Evaluated"]:
    """The lines of the task's table, printed as they come, and kept in the run."""
    from reformer.training.results import TABLE_FILE, add_results

    model, step, weights = load(run, which)
    task = run.config.make_task(which.cache_dir.expanduser(), run.corpus_directory)
    found: list[Evaluated] = []
    yardsticks = 0
    for one in task.evaluations(model, options, progress("sentences")):
        if one.is_yardstick and not yardsticks:
            _print_protocol(found, weights)
        yardsticks += one.is_yardstick
        _print_line(one, first=not found)
        found.append(one)
    if yardsticks:
        print(task.yardsticks_note)
    else:
        _print_protocol(found, weights)
    add_results(run.directory, found, step, command, weights=None if which.average is None else weights)
    print(f"kept in {run.directory / TABLE_FILE} and {run.directory / 'card.md'}")
    return found


def _print_line(one: "Evaluated", first: bool) -> None:
    unit = one.measurement.metric.replace("bits per ", "bits/")
    if first:
        print(f"{'split':<16} {'what':<34} {'value':>8} {'metric':<14} {'accuracy':>8}")
    extras = one.measurement.extras
    accuracy = f"{extras['accuracy']:>9.2%}" if "accuracy" in extras else ""
    print(f"{one.split:<16} {one.variant:<34} {one.measurement.value:>8.3f} {unit:<14}{accuracy}".rstrip(), flush=True)


def _print_protocol(found: list["Evaluated"], weights: str) -> None:
    for signature in dict.fromkeys(one.measurement.extras.get("signature") for one in found):
        if signature is not None:
            print(f"signature: {signature}")
    print(f"protocol: {found[-1].measurement.protocol}; {weights}")
