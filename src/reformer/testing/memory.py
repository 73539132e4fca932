"""Memory as a deterministic number: the tensors a computation makes, and what autograd keeps."""

# mypy: disable-error-code="no-untyped-call"
# torch gives its dispatch mode no types.

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Storages(TorchDispatchMode):
    """Bytes of the memory that tensors lie in, by address; ``keep``: none is freed, so that no address comes twice."""

    def __init__(self, *, keep: bool) -> None:
        super().__init__()
        self.bytes: dict[int, int] = {}
        self._kept: list[Tensor] | None = [] if keep else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and not leaf.is_meta:
                # The storage, not the shape: an expanded view takes no memory.
                storage = leaf.untyped_storage()
                self.bytes[storage.data_ptr()] = max(self.bytes.get(storage.data_ptr(), 0), storage.nbytes())
                if self._kept is not None:
                    self._kept.append(leaf)
        return result


def largest_tensor(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Bytes of the largest tensor that ``function(*args, **kwargs)`` makes or looks at; custom ops hide their inside."""
    with _Storages(keep=False) as mode:
        function(*args, **kwargs)
    return max(mode.bytes.values(), default=0)


def all_tensors(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Bytes of all tensors that ``function(*args, **kwargs)`` makes, as if none were freed; its arguments aside."""
    given = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
    with _Storages(keep=True) as mode:
        function(*args, **kwargs)
    return sum(n for address, n in mode.bytes.items() if address not in given)


@contextmanager
def saved_tensors() -> Iterator[list[Tensor]]:
    """The tensors that autograd keeps for the backward pass of what runs inside the block."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
