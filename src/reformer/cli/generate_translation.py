"""``reformer generate RUN --prompt ...`` of a run that translates: each line of the prompt, translated."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from reformer.cli.averaged import load_averaged
from reformer.cli.parsing import UsageError, check_checkpoint, parse


@dataclass(frozen=True, kw_only=True)
class TranslateOptions:
    """What to translate, and how."""

    prompt: str = ""
    """Sentences, one a line; - reads standard input."""
    num_beams: int = 4
    """Beams; 1 is greedy."""
    alpha: float = 0.6
    """Exponent of the length penalty."""
    average: int | None = None
    """Average the newest so many checkpoints; they must have been kept (keep_last)."""
    checkpoint: str = "latest"
    """latest or best."""
    cache_dir: Path = Path("~/.cache/reformer")


def run(arguments: Sequence[str]) -> int:
    """Parse, translate, and print one line for each line."""
    from tyro.conf import Positional

    @dataclass(frozen=True, kw_only=True)
    class Arguments(TranslateOptions):
        run: Annotated[Positional[Path], "Folder of a run."]

    options = parse(Arguments, arguments, prog="reformer generate", description="Translate with a trained run.")
    check_checkpoint(options.checkpoint, options.average)
    given = sys.stdin.buffer.read() if options.prompt == "-" else os.fsencode(options.prompt)
    try:
        lines = [line.rstrip("\r") for line in given.decode().removesuffix("\n").split("\n")]
    except UnicodeDecodeError as error:
        raise UsageError(f"--prompt must be UTF-8 text, got byte {given[error.start]:#04x} at {error.start}") from None
    if not any(map(str.strip, lines)):
        raise UsageError(
            "this run translates: give sentences, one a line, as --prompt TEXT or --prompt - (standard input)"
        )
    for line in translated(options.run.expanduser(), lines, options):
        print(line)
    return 0


def translated(directory: Path, lines: Sequence[str], options: TranslateOptions) -> list[str]:
    """The translation of each line; an empty one stays empty."""
    from reformer.training.run_directory import load_model
    from reformer.training.tasks import make_task
    from reformer.training.translation_evaluation import BeamOptions, best_translations
    from reformer.training.translation_task import TranslationTask

    run_, model, step = load_model(directory, options.checkpoint, lambda line: print(line, file=sys.stderr))
    load_averaged(model, directory, options.average, step)
    task = make_task(run_.config, options.cache_dir.expanduser(), run_.corpus_directory)
    assert isinstance(task, TranslationTask)
    wanted = [row for row, line in enumerate(lines) if line.strip()]
    beams = BeamOptions(num_beams=options.num_beams, alpha=options.alpha)
    vocabulary = task.pairs.vocabulary
    sources = [ids.tolist() for ids in vocabulary.encode([lines[row] for row in wanted])]
    found = best_translations(task.config, model, sources, beams)
    texts = {row: vocabulary.decode(best.tokens) for row, best in zip(wanted, found)}
    # A translation is one line of the output, whatever the model makes of it.
    return [" ".join(texts.get(row, "").split()) for row in range(len(lines))]
