"""``reformer demo``: the main job end to end, as ``make demo`` runs it."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reformer.cli import eval_command, generate_command, train_command
from reformer.cli.parsing import parse

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
    options = parse(DemoOptions, arguments, prog="reformer demo")
    from reformer.training.card import is_finished

    out, cache = str(options.out), ["--cache-dir", str(options.cache_dir)]
    steps = [] if options.steps is None else ["--steps", str(options.steps)]
    print("1/3 training a Reformer on this Python's standard library")
    _do(train_command.run, "train", "quickstart", "--out", out, "--resume", *steps, *cache)
    if not is_finished(options.out.expanduser()):
        return 0  # stopped by a signal, and how to continue was said
    print("\n2/3 bits per byte on held-out files (lower is better)")
    _do(eval_command.run, "eval", out, "--splits", "test", *cache)
    print("\n3/3 a sample")
    _do(generate_command.run, "generate", out, "--prompt", PROMPT, "--n-bytes", "300")
    print(
        f"""
everything lies in {out}: card.md (how to repeat it), metrics.jsonl, plots/, checkpoints/
next, your own text:  reformer train quickstart --data PATH --out runs/mine
more samples:         reformer generate {out} --prompt 'import ' --seed 1"""
    )
    return 0


def _do(run: Callable[[Sequence[str]], int], command: str, *arguments: str) -> None:
    print(f"$ reformer {command} {shlex.join(arguments)}", flush=True)
    run(arguments)
