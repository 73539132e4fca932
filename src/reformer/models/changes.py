"""The same weights under another config."""

import dataclasses
from typing import Any, TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def with_changed_config(model: Model, changes: dict[str, Any]) -> Model:
    """A model of the class of ``model`` with its weights, frozen parameters and mode, and a changed config.

    Raises ValueError if the change needs other parameters.
    """
    changed = type(model)(dataclasses.replace(model.config, **changes))  # type: ignore[type-var]
    mine = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    theirs = {name: tuple(p.shape) for name, p in changed.state_dict().items()}
    if mine != theirs:
        odd = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
        raise ValueError(f"{changes} needs other parameters than this model has: {', '.join(odd[:4])}")
    some = next(model.parameters())
    # First the dtype, then the weights: the other way round would round them to float32.
    changed.to(some.device, some.dtype).load_state_dict(model.state_dict())
    for mine_p, changed_p in zip(model.parameters(), changed.parameters()):
        changed_p.requires_grad_(mine_p.requires_grad)
    return changed.train(model.training)
