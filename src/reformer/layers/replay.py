"""What a computation that is done again in the backward pass must find as it was: tensors, modes, random states, autocast."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class HeldTensors:
    """Every place in ``module`` that holds a parameter or a buffer, and what it holds.

    A computation that is repeated in the backward pass must find what it found the first time, though by then
    torch.func.functional_call, or whoever lent the module other tensors, is over. Parameters that FSDP2 gathers while the
    module is called (``gathered``) are its affair and left alone.
    """

    def __init__(self, module: nn.Module) -> None:
        but = _gathered_inside(module)
        self.gathered = bool(but)
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


def _gathered_inside(module: nn.Module) -> set[int]:
    """ids of the parameters that FSDP2 shards at ``module`` or below, and gathers while those modules are called."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None or torch.compiler.is_compiling():
        return set()
    return {id(p) for part in module.modules() if isinstance(part, fsdp.FSDPModule) for p in part.parameters()}


@dataclass(frozen=True)
class Surroundings:
    """What a module's result depends on beside its arguments: modes of its modules, and random states it consumed."""

    modes: list[bool]
    device: torch.device
    random: list[Tensor] | None


@contextmanager
def watched(branch: nn.Module, device: torch.device, surroundings: list[Surroundings]) -> Iterator[None]:
    """Note what a replay must find again; refuse modules that are not the same afterwards."""
    if torch.compiler.is_compiling():
        yield
        return
    random, buffers = _random_states(device), [(name, b, b._version) for name, b in branch.named_buffers()]
    yield
    for name, buffer, version in buffers:
        if buffer._version != version or branch.get_buffer(name) is not buffer:
            raise RuntimeError(
                f"buffer {name!r} in a reversible layer changes when the layer is called, so that calling it again in the "
                "backward pass gives something else; use reversible=False, or the module in evaluation mode"
            )
    drew = any(not torch.equal(a, b) for a, b in zip(random, _random_states(device)))
    surroundings.append(Surroundings([m.training for m in branch.modules()], device, random if drew else None))


@contextmanager
def restored(branch: nn.Module, surroundings: Surroundings | None) -> Iterator[None]:
    if surroundings is None:
        yield
        return
    modules = list(branch.modules())
    modes, random = [m.training for m in modules], None
    if surroundings.random is not None:
        random = _random_states(surroundings.device)
        _set_random_states(surroundings.device, surroundings.random)
    _set_modes(modules, surroundings.modes)
    try:
        yield
    finally:
        _set_modes(modules, modes)
        if random is not None:
            _set_random_states(surroundings.device, random)


def _set_modes(modules: list[nn.Module], modes: list[bool]) -> None:
    for module, mode in zip(modules, modes):
        if module.training != mode:
            module.training = mode


def _random_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def _set_random_states(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


Autocast = tuple[str, bool, torch.dtype]


def autocast_state(x: Tensor) -> Autocast | None:
    device = x.device.type
    if not torch.amp.is_autocast_available(device):
        return None
    return device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def autocast_as(state: Autocast | None) -> AbstractContextManager[Any]:
    if state is None:
        return nullcontext()
    device, enabled, dtype = state
    # Also entered when it was off, for it may be on around the backward pass. No weight cache: a copy cached while
    # gradients are off would cut the graph of a later use.
    return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False)
