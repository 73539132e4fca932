"""One contender's attention, measured from inside its own process."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from reformer.bench.case import Case, Inputs, Operation, case_from_json
from reformer.bench.contenders import ATTENTION
from reformer.bench.timing import seconds_of
from reformer.training.environment import peak_memory_bytes, reset_peak_memory

FORWARD, BOTH = "forward", "forward+backward"
DIRECTIONS = (FORWARD, BOTH)


class AttentionSubject:
    """Builds the operations of a contender as cases come, and times them. JSON in, JSON out (``worker``)."""

    def __init__(self, contender: str, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self._contender, self._device = ATTENTION[contender], device
        self._inputs: tuple[Case, Inputs] | None = None
        self._operations: dict[Case, Operation] = {}

    def runs(self, case: dict[str, Any]) -> str:
        """Of ours: the implementation that runs."""
        return self._operation(case_from_json(case)).runs

    def time(self, case: dict[str, Any], direction: str) -> float:
        """Seconds of one call."""
        return seconds_of(self._call(case_from_json(case), direction), self._device)

    def memory(self, case: dict[str, Any], direction: str) -> dict[str, int]:
        """Bytes by which memory rises during one call: in all, and beyond the output and the gradients.

        On a CPU it is the resident memory of the process: ask this of a fresh one.
        """
        shape = case_from_json(case)
        # What is allocated once and for all (thread pools, libraries' workspaces) is not the operation's.
        if self._device == "cpu":
            self._call(shape.at(min(shape.seq_len, 1024)), direction)()
        call = self._call(shape, direction)
        before = self._start_of_peak()
        call()
        peak = peak_memory_bytes(self._device) - before
        operation = self._operation(shape)
        results = [self._cotangent(operation), *(operation.leaves if direction == BOTH else ())]
        kept = sum(tensor.numel() * tensor.element_size() for tensor in results)
        return {"peak_bytes": peak, "extra_bytes": max(peak - kept, 0)}

    def _start_of_peak(self) -> int:
        reset_peak_memory(self._device)
        return peak_memory_bytes(self._device)

    def _call(self, case: Case, direction: str) -> Callable[[], object]:
        operation = self._operation(case)
        if direction == FORWARD:
            return torch.no_grad()(lambda: operation.call(*operation.leaves))
        leaves = [leaf.detach().requires_grad_() if not leaf.requires_grad else leaf for leaf in operation.leaves]
        cotangent = self._cotangent(operation)
        return lambda: torch.autograd.grad(operation.call(*leaves), leaves, cotangent)

    def _cotangent(self, operation: Operation) -> torch.Tensor:
        # The first leaf is the input, and every output is shaped as it is.
        assert self._inputs is not None
        return self._inputs[1].like(tuple(operation.leaves[0].shape), 3)

    def _operation(self, case: Case) -> Operation:
        shape = case.as_seen_by(())
        if self._inputs is None or self._inputs[0] != shape:
            # Cases of one shape share their inputs; those of the last shape go, before there are new ones.
            self._operations.clear()
            self._inputs = None
            self._inputs = (shape, Inputs(shape, self._device))
        if case not in self._operations:
            module, _, function = self._contender.build.partition(":")
            build = getattr(importlib.import_module(f"reformer.bench.{module}"), function)
            ours = {} if self._contender.impl is None else {"impl": self._contender.impl}
            self._operations[case] = build(case, self._inputs[1], self._device, **ours)
        return self._operations[case]
