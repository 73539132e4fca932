"""``reformer train RECIPE [overrides]``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reformer.cli.parsing import UsageError, parse


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
    from reformer.training.loop import train
    from reformer.training.recipes import RECIPES, recipe

    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help({name: (make.__doc__ or "").split("\n")[0] for name, make in RECIPES.items()}))
        return 0 if arguments else 2
    if arguments[0].startswith("-"):
        raise UsageError(
            f"name the recipe first: reformer train RECIPE {arguments[0]} ...; recipes: {', '.join(RECIPES)}"
        )
    name, *overrides = arguments
    config = recipe(name)
    options = _options_class(type(config))
    parsed = parse(
        options,
        overrides,
        prog=f"reformer train {name}",
        description=RECIPES[name].__doc__ or "",
        default=options(**{f.name: getattr(config, f.name) for f in dataclasses.fields(config)}),
    )
    fields = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(config)}
    config = type(config)(**fields)
    directory = (parsed.out or Path("runs") / config.name).expanduser()
    outcome = train(
        config,
        directory,
        cache_dir=parsed.cache_dir.expanduser(),
        resume=parsed.resume,
        command=["reformer", "train", *arguments],
    )
    _report(outcome, name)
    return 0


def _options_class(config_class: type) -> type:
    """One flat dataclass of the run's options and the config's fields, so that --data PATH and --out DIR stand together."""
    return dataclasses.make_dataclass(
        "Options",
        [],
        bases=(config_class, RunOptions),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": config_class.__doc__},
    )


def _report(outcome, recipe_name: str) -> None:
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


def _help(recipes: dict[str, str]) -> str:
    width = max(map(len, recipes))
    lines = [f"  {name:<{width}}  {what}" for name, what in recipes.items()]
    return "\n".join(
        [
            "usage: reformer train RECIPE [--out DIR] [--resume] [--data PATH] [overrides]",
            "",
            "recipes:",
            *lines,
            "",
            "reformer train RECIPE --help lists every override, for example --seq-len 8192 --model.n-hashes 4.",
        ]
    )
