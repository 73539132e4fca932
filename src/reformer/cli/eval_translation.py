"""``reformer eval RUN`` of a run that translates: BLEU with signatures, beside the control with shuffled sources."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from reformer.cli.averaged import load_averaged
from reformer.cli.parsing import UsageError, check_checkpoint, check_split, parse


@dataclass(frozen=True, kw_only=True)
class TranslationEvalOptions:
    """What to translate, and how."""

    splits: tuple[str, ...] = ("test",)
    limit: int = 100_000
    """First pairs of each set of a split."""
    num_beams: tuple[int, ...] = (1, 4)
    """Beams; 1 is greedy."""
    alpha: float = 0.6
    """Exponent of the length penalty."""
    average: int | None = None
    """Average the newest so many checkpoints; they must have been kept (keep_last)."""
    checkpoint: str = "latest"
    """latest or best."""
    cache_dir: Path = Path("~/.cache/reformer")


def translates(argument: str) -> bool:
    """Whether an argument is the folder of a run that translates."""
    from reformer.training.run_directory import CONFIG_FILE, open_run
    from reformer.training.translation_config import TranslationConfig

    folder = Path(argument).expanduser()
    return (folder / CONFIG_FILE).is_file() and isinstance(open_run(folder).config, TranslationConfig)


def run(arguments: Sequence[str]) -> int:
    """Parse, translate, print the table and keep it in the run's eval.json and card."""
    from tyro.conf import Positional

    @dataclass(frozen=True, kw_only=True)
    class Arguments(TranslationEvalOptions):
        run: Annotated[Positional[Path], "Folder of a run."]

    options = parse(Arguments, arguments, prog="reformer eval", description="BLEU of a run that translates.")
    for split in options.splits:
        check_split(split)
    check_checkpoint(options.checkpoint, options.average)
    if options.limit < 1:
        raise UsageError(f"--limit must be at least 1, got {options.limit}")
    evaluate_translations(options.run.expanduser(), options, ["reformer", "eval", *arguments])
    return 0


def evaluate_translations(directory: Path, options: TranslationEvalOptions, command: list[str]) -> list[dict[str, Any]]:
    """Rows of every split, set and number of beams; printed and kept."""
    from reformer.training.results import TABLE_FILE, add_results
    from reformer.training.run_directory import load_model
    from reformer.training.tasks import make_task
    from reformer.training.translation_evaluation import BeamOptions, bleu_rows
    from reformer.training.translation_task import TranslationTask

    run_, model, step = load_model(directory, options.checkpoint)
    which = load_averaged(model, directory, options.average, step)
    task = make_task(run_.config, options.cache_dir.expanduser(), run_.corpus_directory)
    assert isinstance(task, TranslationTask)
    rows: list[dict[str, Any]] = []
    print(f"{'set':<28}{'search':<36}{'metric':<14}{'BLEU':>7}{'score':>9}")
    for split in options.splits:
        for num_beams in options.num_beams:
            beams = BeamOptions(num_beams=num_beams, alpha=options.alpha)
            for row in bleu_rows(task, model, split, beams, limit=options.limit, progress=_progress):
                rows.append({**row, "step": step, "protocol": f"{row['protocol']}; {which}"})
                _print_row(row)
    for signature in dict.fromkeys(row["signature"] for row in rows):
        print(f"signature: {signature}")
    print(f"protocol: {rows[-1]['protocol']}")
    add_results(directory, rows, command)
    print(f"kept in {directory / TABLE_FILE} and {directory / 'card.md'}")
    return rows


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} sentences", end=end, file=sys.stderr, flush=True)


def _print_row(row: dict[str, Any]) -> None:
    score = f"{row['score']:>9.4f}" if "score" in row else ""
    print(f"{row['split']:<28}{row['attention']:<36}{row['metric']:<14}{row['value']:>7.2f}{score}", flush=True)
