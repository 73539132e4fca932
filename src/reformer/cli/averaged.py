"""``--average N``: the mean of a run's newest checkpoints in place of one."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reformer.training.models import Model


def load_averaged(model: "Model", directory: Path, n: int | None, step: int) -> str:
    """Load the mean of the newest ``n`` checkpoints into ``model``, which holds that of ``step`` (None: leave it); which it is."""
    from reformer.training.averaging import average_checkpoints
    from reformer.training.run_directory import CHECKPOINTS

    if n is None:
        return f"checkpoint of step {step}"
    weights, steps = average_checkpoints(directory / CHECKPOINTS, n)
    model.load_state_dict(weights)
    return f"mean of the checkpoints of steps {', '.join(map(str, steps))}"
