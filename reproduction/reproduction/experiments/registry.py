"""All experiments by name, in the order of the paper and then beyond it."""

from reproduction.benchmarks.benchmark import require_name
from reproduction.experiments import (
    ablate_lsh,
    baselines,
    claims,
    context,
    figure3,
    figure4,
    figure5_left,
    figure5_right,
    patterns,
    recall,
    scale,
    table1_3,
    table2,
    table4,
)
from reproduction.experiments.experiment import Experiment

_MODULES = (
    table1_3,
    table2,
    figure3,
    figure4,
    table4,
    figure5_left,
    figure5_right,
    claims,
    baselines,
    context,
    ablate_lsh,
    patterns,
    scale,
    recall,
)
_EXPERIMENTS: dict[str, Experiment] = {module.EXPERIMENT.name: module.EXPERIMENT for module in _MODULES}
NAMES = tuple(_EXPERIMENTS)


def experiment(name: str) -> Experiment:
    """The experiment called ``name``. Raises ValueError listing the valid names."""
    require_name("experiment", name, NAMES)
    return _EXPERIMENTS[name]
