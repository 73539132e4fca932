"""``reformer eval RUN``: bits per byte with its protocol, beside general-purpose compressors.

Of pictures bits per dim, of translations BLEU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from reformer.cli.parsing import UsageError, check_checkpoint, check_split, parse, positive_numbers


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What to measure."""

    splits: tuple[str, ...] = ("validation", "test")
    limit: int = 65_536
    """First bytes of each split (duplication, recall: sequences, at most 256; images: whole pictures of at most so many bytes)."""
    overlap: int = 0
    """Bytes of context that a window repeats from the one before; 0: disjoint windows, no carried context."""
    n_hashes: str | None = None
    """Hash rounds at evaluation, separated by commas: 1,2,4,8 gives one table."""
    attention: str | None = None
    """Attention at evaluation, separated by commas: as-trained, full, lsh-N."""
    checkpoint: str = "latest"
    """latest or best."""
    window: int | None = None
    """Bytes of a window; default: that of training."""
    cache_dir: Path = Path("~/.cache/reformer")


def run(arguments: Sequence[str]) -> int:
    """Parse, evaluate, print the table and keep it in the run's eval.json and card."""
    from reformer.cli import eval_translation

    if any(eval_translation.translates(argument) for argument in arguments if not argument.startswith("-")):
        return eval_translation.run(arguments)
    directory, options = _parse(arguments)
    evaluate_run(directory, options, ["reformer", "eval", *arguments])
    return 0


def evaluate_run(directory: Path, options: EvalOptions, command: list[str]) -> list[dict[str, Any]]:
    """Rows {"split", "attention", "bits_per_byte", ...} of every split and attention variant; printed and kept."""
    import dataclasses

    from reformer.evaluation import attention_variant
    from reformer.training.results import TABLE_FILE, add_results
    from reformer.training.run_directory import load_trained
    from reformer.training.tasks import make_task

    run_, model, step = load_trained(directory, options.checkpoint)
    config = run_.config
    if options.window is not None:
        config = dataclasses.replace(config, seq_len=options.window)
    if not 0 <= options.overlap < config.seq_len:
        raise UsageError(
            f"--overlap must be at least 0 and below the window of {config.seq_len}, got {options.overlap}"
        )
    task = make_task(config, options.cache_dir.expanduser(), run_.corpus_directory)
    has_splits = task.corpus is not None
    limit = min(options.limit, 256) if config.task in ("duplication", "recall") else options.limit
    rows: list[dict[str, Any]] = []
    for split in options.splits if has_splits else options.splits[-1:]:
        for name in _variants(options, config.task):
            result = task.evaluate(attention_variant(model, name), split, limit, options.overlap)
            rows.append({"split": split, "attention": name, "step": step, **result})
            _print_row(rows[-1], first=len(rows) == 1)
    print(f"protocol: {rows[-1]['protocol']}; checkpoint of step {step}")
    for split in options.splits if has_splits else ():
        yardsticks = task.yardsticks(split, options.limit)
        rows += [{"split": split, "attention": name, **result} for name, result in yardsticks.items()]
        for row in rows[len(rows) - len(yardsticks) :]:
            _print_row(row, first=False)
    if has_splits:
        print(task.yardsticks_note)
    add_results(directory, rows, command)
    print(f"kept in {directory / TABLE_FILE} and {directory / 'card.md'}")
    return rows


def _parse(arguments: Sequence[str]) -> tuple[Path, EvalOptions]:
    from tyro.conf import Positional

    @dataclass(frozen=True, kw_only=True)
    class Arguments(EvalOptions):
        run: Annotated[Positional[Path], "Folder of a run."]

    parsed = parse(Arguments, arguments, prog="reformer eval", description="Measure a trained run.")
    for split in parsed.splits:
        check_split(split)
    check_checkpoint(parsed.checkpoint)
    if parsed.limit < 1:
        raise UsageError(f"--limit must be at least 1, got {parsed.limit}")
    return parsed.run.expanduser(), parsed


def _variants(options: EvalOptions, task: str) -> list[str]:
    names = [] if options.attention is None else options.attention.split(",")
    names += [f"lsh-{number}" for number in positive_numbers("--n-hashes", options.n_hashes)]
    if names:
        return names
    # The columns of the paper's table 2.
    return ["full", "lsh-8", "lsh-4", "lsh-2", "lsh-1"] if task == "duplication" else ["as-trained"]


def _print_row(row: dict[str, Any], first: bool) -> None:
    from reformer.training.results import metric_of

    if first:
        unit = metric_of(row).replace("bits per ", "bits/")
        print(f"{'split':<12}{'attention':<14}{unit:>10}{'accuracy':>10}")
    accuracy = f"{row['accuracy']:.2%}" if "accuracy" in row else ""
    print(f"{row['split']:<12}{row['attention']:<14}{row['bits_per_byte']:>10.3f}{accuracy:>10}", flush=True)
