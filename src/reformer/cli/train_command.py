"""``reformer train RECIPE [overrides]``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.extras import SubcommandApp

from reformer.cli.parsing import UsageError, beside, one_line_errors, option_names

if TYPE_CHECKING:
    from reformer.training.loop import Outcome

DESCRIPTION = """Train a recipe. reformer train RECIPE --help lists every option of it, for example --seq-len 8192
--model.n-hashes 4."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a run is kept; not part of what decides its weights."""

    out: Path | None = None
    """Folder of the run; default runs/RECIPE."""
    resume: bool = False
    """Continue the run in --out from its newest undamaged checkpoint (or start it, if there is none)."""
    cache_dir: Path = Path("~/.cache/reformer")
    """Where prepared corpora are kept."""


def run(arguments: Sequence[str]) -> int:
    """Parse and train; 0 when finished or stopped by a signal after saving."""
    from reformer.tasks.registry import RECIPES, recipe
    from reformer.training.loop import train

    help_wanted = arguments[:1] in (["-h"], ["--help"])
    if not help_wanted and (not arguments or arguments[0].startswith("-")):
        named = " ".join(["reformer train RECIPE", *arguments[:1]])
        raise UsageError(f"name the recipe first: {named} ...; recipes: {', '.join(RECIPES)}")
    known = [] if help_wanted else option_names(recipe(arguments[0])) + option_names(RunOptions)
    recipes = SubcommandApp()
    for name, make in RECIPES.items():
        recipes.command(name=name, help=(make.__doc__ or "").split("\n")[0])(beside(make(), RunOptions()))
    with one_line_errors(arguments, f"reformer train {arguments[0]}", known):
        config, options = recipes.cli(prog="reformer train", description=DESCRIPTION, args=arguments)
    directory = (options.out or Path("runs") / config.name).expanduser()
    outcome = train(
        config,
        directory,
        cache_dir=options.cache_dir.expanduser(),
        resume=options.resume,
        command=["reformer", "train", *arguments],
    )
    _report(outcome, arguments[0])
    return 0


def _report(outcome: "Outcome", recipe_name: str) -> None:
    directory = outcome.directory
    if outcome.status == "stopped":
        print(
            f"stopped by {outcome.stopped_by} after step {outcome.step}; everything is saved. "
            f"Continue with: reformer train {recipe_name} --out {directory} --resume (and the same overrides)",
            file=sys.stderr,
        )
        return
    print(f"finished at step {outcome.step}: {directory}/card.md, plots in {directory}/plots")
    print(f"next: reformer eval {directory}")
