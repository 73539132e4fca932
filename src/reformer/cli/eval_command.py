"""``reformer eval RUN``: what the run's task measures on held-out data, with its protocol, beside its yardsticks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reformer.cli.runs import ModelOptions, load, parse_for_run, progress

if TYPE_CHECKING:
    from reformer.tasks.protocol import Evaluated

DESCRIPTION = """Measure a trained run: bits per byte of text beside gzip, bzip2 and xz, bits per dim of pictures, BLEU of
translations, accuracy of what can be right or wrong."""


def run(arguments: Sequence[str]) -> int:
    """Parse, evaluate, print the table and keep it in the run's eval.json and card."""
    run_, which, options = parse_for_run("eval", arguments, ModelOptions(), "eval_options", DESCRIPTION)
    from reformer.training.results import TABLE_FILE, add_results

    model, step, weights = load(run_, which)
    task = run_.config.make_task(which.cache_dir.expanduser(), run_.corpus_directory)
    found: list[Evaluated] = []
    for one in task.evaluations(model, options, progress("sentences")):
        found.append(one)
        _print_line(one, first=len(found) == 1)
    of_model = [one.measurement for one in found if not one.is_yardstick]
    for signature in dict.fromkeys(each.extras["signature"] for each in of_model if "signature" in each.extras):
        print(f"signature: {signature}")
    print(f"protocol: {of_model[-1].protocol}; {weights}")
    if task.yardsticks_note:
        print(task.yardsticks_note)
    command = ["reformer", "eval", *arguments]
    add_results(run_.directory, found, step, command, weights=None if which.average is None else weights)
    print(f"kept in {run_.directory / TABLE_FILE} and {run_.directory / 'card.md'}")
    return 0


def _print_line(one: "Evaluated", first: bool) -> None:
    if first:
        print(f"{'split':<16} {'what':<34} {'value':>8} metric")
    value, extras = one.measurement.value, one.measurement.extras
    more = f"  accuracy {extras['accuracy']:.2%}" if "accuracy" in extras else ""
    more += f"  score {extras['score']:.4f}" if "score" in extras else ""
    unit = one.measurement.metric.replace("bits per ", "bits/")
    print(f"{one.split:<16} {one.variant:<34} {value:>8.3f} {unit}{more}", flush=True)
