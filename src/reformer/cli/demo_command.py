"""``reformer demo``: the main job end to end, as ``make demo`` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reformer.cli.parsing import parse
from reformer.cli.runs import ModelOptions

PROMPT = 'def parse_header(line):\n    """'


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Train, evaluate and sample, in minutes."""

    out: Path = Path("runs/quickstart")
    """Folder of the run."""
    cache_dir: Path = Path("~/.cache/reformer")
    """Where prepared corpora are kept."""
    steps: int | None = None
    """Fewer steps than the recipe's, for a quick look."""


def run(arguments: Sequence[str]) -> int:
    """Train the quickstart recipe (continuing an interrupted one), evaluate it, sample from it, say what is where."""
    import dataclasses

    from reformer.cli.eval_command import evaluate_run
    from reformer.cli.generate_command import generate_text
    from reformer.tasks.language_model import ContinueOptions
    from reformer.tasks.registry import recipe
    from reformer.training.loop import train
    from reformer.training.run_directory import open_run

    options = parse(DemoOptions, arguments, prog="reformer demo")
    directory, cache_dir = options.out.expanduser(), options.cache_dir.expanduser()
    config = recipe("quickstart")
    if options.steps is not None:
        config = dataclasses.replace(config, steps=options.steps)
    print(
        f"1/3 training a Reformer on this Python's standard library, {config.steps} windows of {config.seq_len:,} bytes"
    )
    command = ["reformer", "demo", *arguments]
    outcome = train(config, directory, cache_dir=cache_dir, resume=True, command=command)
    if outcome.status == "stopped":
        print(f"stopped by {outcome.stopped_by} after step {outcome.step}; run the same command again to continue")
        return 0
    print("\n2/3 bits per byte on held-out files (lower is better)")
    run_, which = open_run(directory), ModelOptions(cache_dir=cache_dir)
    evaluate_run(run_, config.eval_options(splits=("test",)), which, command)
    print(f"\n3/3 a sample, continuing {PROMPT!r}\n")
    generate_text(run_, PROMPT.encode(), ContinueOptions(n_bytes=300), which)
    print(
        f"""
everything lies in {directory}: card.md (how to repeat it), metrics.jsonl, plots/, checkpoints/
next, your own text:  reformer train quickstart --data PATH --out runs/mine
more samples:         reformer generate {directory} --prompt 'import ' --seed 1"""
    )
    return 0
