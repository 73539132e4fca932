"""Averages of checkpoints (Vaswani et al. 2017, section 6.1: the last few of a run, for evaluation)."""

from pathlib import Path

from torch import Tensor

from reformer.training.checkpoint import CheckpointError, list_checkpoints, read_checkpoint


def average_checkpoints(root: Path, n: int) -> tuple[dict[str, Tensor], list[int]]:
    """(the mean of the models of the newest ``n`` checkpoints under ``root``, their steps).

    Sums are float64, and each tensor of the mean has the dtype it had; those that are no floating-point numbers are the
    newest's. Raises ValueError for fewer than ``n`` checkpoints, CheckpointError for a damaged one.
    """
    paths = list_checkpoints(root)
    if n < 1 or len(paths) < n:
        raise ValueError(
            f"{root} holds {len(paths)} checkpoints, so between 1 and {len(paths)} can be averaged, not {n}; "
            "train with a larger keep_last"
        )
    newest = read_checkpoint(paths[-1])
    model, steps = newest.tensors["model"], [newest.step]
    sums = {name: tensor.double() for name, tensor in model.items() if tensor.is_floating_point()}
    for path in reversed(paths[-n:-1]):
        # One at a time: a checkpoint may be large.
        older = read_checkpoint(path)
        if older.tensors["model"].keys() != model.keys():
            raise CheckpointError(f"{path}: it holds other tensors than {paths[-1]}")
        sums = {name: total + older.tensors["model"][name].double() for name, total in sums.items()}
        steps.append(older.step)
    return model | {name: (total / n).to(model[name].dtype) for name, total in sums.items()}, sorted(steps)
