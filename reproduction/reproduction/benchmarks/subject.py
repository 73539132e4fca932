"""One contender's attention, measured from inside its own process."""

from collections.abc import Callable

import torch
from torch import Tensor

from reformer.training.environment import peak_memory_bytes, reset_peak_memory
from reproduction.benchmarks.contenders import ATTENTION
from reproduction.benchmarks.operations import Inputs, Operation, Shape
from reproduction.timing import seconds_of

FORWARD, BOTH = "forward", "forward+backward"
DIRECTIONS = (FORWARD, BOTH)


class AttentionSubject:
    """Builds the operations of a contender as shapes come, and times them (``worker``)."""

    def __init__(self, contender: str, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self._contender, self._device = ATTENTION[contender], device
        self._inputs: tuple[Shape, Inputs] | None = None
        self._operations: dict[Shape, Operation] = {}

    def time(self, shape: Shape, direction: str) -> float:
        """Seconds of one call."""
        return seconds_of(self.call(shape, direction), self._device)

    def memory(self, shape: Shape, direction: str) -> dict[str, int]:
        """Bytes by which memory rises during one call: in all, and beyond the output and the gradients.

        On a CPU it is the resident memory of the process: ask this of a fresh one.
        """
        # What is allocated once and for all (thread pools, libraries' workspaces) is not the operation's.
        if self._device == "cpu":
            self.call(shape.at(min(shape.seq_len, 1024)), direction)()
        call = self.call(shape, direction)
        reset_peak_memory(self._device)
        before = peak_memory_bytes(self._device)
        call()
        peak = peak_memory_bytes(self._device) - before
        operation = self.operation(shape)
        results = [self._cotangent(operation), *(operation.leaves if direction == BOTH else ())]
        kept = sum(tensor.numel() * tensor.element_size() for tensor in results)
        return {"peak_bytes": peak, "extra_bytes": max(peak - kept, 0)}

    def call(self, shape: Shape, direction: str) -> Callable[[], object]:
        """What is timed: the output, or with a backward pass the gradients of all leaves."""
        operation = self.operation(shape)
        if direction == FORWARD:
            return torch.no_grad()(lambda: operation.call(*operation.leaves))
        leaves = [leaf.detach().requires_grad_() if not leaf.requires_grad else leaf for leaf in operation.leaves]
        cotangent = self._cotangent(operation)
        return lambda: torch.autograd.grad(operation.call(*leaves), leaves, cotangent)

    def _cotangent(self, operation: Operation) -> Tensor:
        # The first leaf is the input, and every output is shaped as it is.
        assert self._inputs is not None
        return self._inputs[1].like(tuple(operation.leaves[0].shape), 3)

    def operation(self, shape: Shape) -> Operation:
        """The contender at ``shape``. Shapes that differ in hashing alone share their inputs; those of the last one go."""
        seen = shape.as_seen_by(())
        if self._inputs is None or self._inputs[0] != seen:
            # Before there are new ones.
            self._operations.clear()
            self._inputs = None
            self._inputs = (seen, Inputs(seen, self._device))
        if shape not in self._operations:
            ours = {} if self._contender.impl is None else {"impl": self._contender.impl}
            self._operations[shape] = self._contender.build(shape, self._inputs[1], **ours)
        return self._operations[shape]
