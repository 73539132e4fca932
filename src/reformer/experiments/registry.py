"""All experiments by name, in the order of the paper and then beyond it."""

from __future__ import annotations

import difflib
import importlib

from reformer.experiments.experiment import Experiment

NAMES = (
    "table1-3",
    "table2",
    "figure3",
    "figure4",
    "table4",
    "figure5-left",
    "figure5-right",
    "claims",
    "baselines",
    "context",
    "ablate-lsh",
    "patterns",
    "scale",
    "recall",
)


def experiment(name: str) -> Experiment:
    """The experiment called ``name``. Raises ValueError listing the valid names."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown experiment {name!r}; {hint}experiments: {', '.join(NAMES)}")
    found = importlib.import_module(f"reformer.experiments.{name.replace('-', '_')}").EXPERIMENT
    assert isinstance(found, Experiment)
    return found
