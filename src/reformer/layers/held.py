"""The parameters and buffers of a module as they are now, to compute with again when they may be others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class HeldTensors:
    """Every place in ``module`` that holds a parameter or a buffer, and what it holds.

    A computation that is repeated in the backward pass must find what it found the first time, though by then
    torch.func.functional_call, or whoever lent the module other tensors, is over. Tensors in ``but`` (by id) are left alone.
    """

    def __init__(self, module: nn.Module, but: Collection[int] = ()) -> None:
        self.places: list[tuple[dict[str, Any], str, Tensor]] = []
        self.learned: dict[int, tuple[str, Tensor]] = {}
        for prefix, owner in module.named_modules():
            for names in (owner._parameters, owner._buffers):
                for name, tensor in names.items():
                    if tensor is None or id(tensor) in but:
                        continue
                    self.places.append((names, name, tensor))
                    if names is owner._parameters and tensor.requires_grad:
                        full_name = f"{prefix}.{name}" if prefix else name
                        self.learned.setdefault(id(tensor), (full_name, tensor))

    @contextmanager
    def in_place(self, instead: Mapping[int, Tensor] | None = None) -> Iterator[None]:
        """Put the tensors held, or ``instead`` (by id of the one held), where they were; afterwards what is there now."""
        now: list[tuple[dict[str, Any], str, Any]] = []
        for names, name, held in self.places:
            tensor = held if instead is None else instead.get(id(held), held)
            if names.get(name) is not tensor:
                now.append((names, name, names.get(name)))
                names[name] = tensor
        try:
            yield
        finally:
            for names, name, tensor in now:
                names[name] = tensor
