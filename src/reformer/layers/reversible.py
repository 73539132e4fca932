"""The stack of reversible layers: residual functions of two streams, rebuilt in the backward pass instead of kept.

Paper, section 3 "Reversible Transformer": y1 = x1 + f(x2), y2 = x2 + g(y1); backward: x2 = y2 - g(y1), x1 = y1 - f(x2).
Each layer is an autograd.Function of its own. Its outputs are not kept: a layer gets them from the one above, which has just
rebuilt them as its inputs. They come down as the "gradients" of two empty tensors that go up beside the streams
(``_Carried``), so that autograd, hooks, DistributedDataParallel and FSDP2 meet ordinary modules in the ordinary order.

B batch, L length, S length of what a decoder reads beside its own tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from reformer.layers.attention import SelfAttention
from reformer.layers.passes import DecodingStep, ParallelPass, resolve_seed
from reformer.layers.replay import Autocast, HeldTensors, Surroundings, autocast_as, autocast_state, restored, watched
from reformer.ops import derive_seed, dropout
from reformer.ops.decoding import AttentionCache
from reformer.ops.hashing import Buckets

_INNER, _RESIDUAL_DROPOUT = 0, 1
Pair = tuple[Tensor, Tensor]


class ResidualBranch(nn.Module):
    """dropout(inner(LayerNorm(x))): what a layer adds to a stream (pre-norm, as the authors' code)."""

    def __init__(self, d_model: int, inner: nn.Module, dropout: float, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.inner = inner
        self.dropout = dropout

    def forward(self, x: Tensor, how: ParallelPass | DecodingStep) -> Tensor:
        """The update [B, L, d_model]."""
        return how.through(self, x)

    def run(self, x: Tensor, parallel: ParallelPass) -> Tensor:
        """See ``Branch.run``."""
        out: Tensor = self.inner(self.norm(x), replace(parallel, seed=self.inner_seed(parallel.seed)))
        drop = self.dropout if self.training else 0.0
        return dropout(out, drop, derive_seed(parallel.seed, _RESIDUAL_DROPOUT) if drop > 0.0 else None)

    def step(self, x: Tensor, decoding: DecodingStep) -> Tensor:
        """See ``Branch.step``."""
        out: Tensor = self.inner(self.norm(x), decoding)
        return out

    def empty_cache(
        self, *, batch: int, max_len: int, seed: Tensor, n_buckets: Buckets, dtype: torch.dtype, device: torch.device
    ) -> AttentionCache:
        """Of a branch that attends: see ``SelfAttention.empty_cache``."""
        assert isinstance(self.inner, SelfAttention)
        seed = self.inner_seed(seed)
        return self.inner.empty_cache(
            batch=batch, max_len=max_len, seed=seed, n_buckets=n_buckets, dtype=dtype, device=device
        )

    @staticmethod
    def inner_seed(seed: Tensor) -> Tensor:
        """The seed that ``inner`` gets when the branch gets ``seed``."""
        return derive_seed(seed, _INNER)


class ReversibleLayer(nn.Module):
    """The residual functions of one layer, two or in a decoder three, which take turns on the streams.

    ``streams=1``: those of an ordinary Transformer, each of which reads the one stream and adds to it.
    """

    def __init__(
        self,
        attention: ResidualBranch,
        feed_forward: ResidualBranch,
        cross_attention: ResidualBranch | None = None,
        *,
        streams: int = 2,
    ) -> None:
        super().__init__()
        self.attention, self.cross_attention, self.feed_forward = attention, cross_attention, feed_forward
        self.streams = streams

    def branches(self) -> list[ResidualBranch]:
        """In the order in which they take turns."""
        return [b for b in (self.attention, self.cross_attention, self.feed_forward) if b is not None]

    def forward(
        self, x1: Tensor, x2: Tensor, hows: Sequence[ParallelPass | DecodingStep], carried: _Carried | None = None
    ) -> Pair:
        """The streams [B, L, d_model] after the layer; ``hows`` has one entry for each branch.

        With ``carried`` the layer's activations are rebuilt in the backward pass, without they are kept by autograd.
        """
        if carried is not None:
            return carried.through(self, x1, x2, hows)
        for branch, how in zip(self.branches(), hows):
            update = branch(x2, how)
            if update.dtype != x2.dtype:
                update = update.to(x2.dtype)
            x1, x2 = (x2, x1 + update) if self.streams == 2 else ((y := x2 + update), y)
        return x1, x2


class ReversibleStack(nn.Module):
    """Layers (attention, feed-forward) over two streams (paper, section 3): y1 = x1 + A(x2), y2 = x2 + F(y1).

    Both are modules that are a ``Branch``, as SelfAttention, CrossAttention and FeedForward are.

    With ``cross_attention``, one for each layer, it is a decoder: attention, cross-attention to a memory, feed-forward,
    each adding to the stream that the one before it read (the order of the authors' code); the next layer goes on in turn.

    ``reversible=True`` rebuilds activations in the backward pass, so their memory does not grow with depth; False is the
    same function with ordinary autograd, which second derivatives and torch.func's transforms need. ``streams=1`` is the
    ordinary Transformer of the same layers, y = x + A(x) and y + F(y), which both returned streams are: what the paper
    compares with.

    The backward pass of reversible layers calls every module again. So what a module draws from torch's generators is drawn
    again alike, and forward hooks run twice; a module that changes a buffer when it is called is refused.

    Raises ValueError for ``streams=1`` with ``reversible=True``: one stream cannot be undone.
    """

    def __init__(
        self,
        d_model: int,
        layers: Sequence[tuple[nn.Module, nn.Module]],
        *,
        cross_attention: Sequence[nn.Module] = (),
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
        reversible: bool = True,
        streams: int = 2,
    ) -> None:
        super().__init__()
        require_streams(streams, reversible)
        self.reversible, self.streams = reversible, streams

        def branch(inner: nn.Module) -> ResidualBranch:
            return ResidualBranch(d_model, inner, dropout, norm_eps)

        self.layers: Iterable[ReversibleLayer] = nn.ModuleList(  # type: ignore[assignment]
            ReversibleLayer(
                branch(attention),
                branch(feed_forward),
                branch(cross_attention[index]) if cross_attention else None,
                streams=streams,
            )
            for index, (attention, feed_forward) in enumerate(layers)
        )

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        *,
        seed: int | Tensor | None = None,
        segment_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        memory: Tensor | None = None,
        memory_segment_ids: Tensor | None = None,
        decoding: Sequence[DecodingStep] | None = None,
    ) -> Pair:
        """(y1, y2), both [B, L, d_model]; ``seed`` as in ``SelfAttention.forward``. One stream begins as ``x2``.

        A decoder reads ``memory`` [B, S, d_model], each token that of its own id in ``memory_segment_ids`` [B, S]
        (``reformer.ops.cross_attention``). With ``decoding``, a step for each layer, x1 and x2 are the next tokens of a
        generation. Raises ValueError if the two streams differ in shape or dtype.
        """
        if x1.shape != x2.shape or x1.dtype != x2.dtype:
            raise ValueError(
                f"the two streams must have one shape and dtype, got {list(x1.shape)} {x1.dtype} "
                f"and {list(x2.shape)} {x2.dtype}"
            )
        if decoding is not None:
            for layer, step in zip(self.layers, decoding):
                x1, x2 = layer(x1, x2, (step, step, step))
            return x1, x2
        carried = _Carried() if self.reversible and torch.is_grad_enabled() else None
        for layer, seeds in zip(self.layers, self.seeds(resolve_seed(seed, self.training))):
            attention, feed_forward, cross = (
                ParallelPass(
                    seed=each,
                    segment_ids=segment_ids,
                    position_ids=position_ids,
                    memory=memory,
                    memory_segment_ids=memory_segment_ids,
                )
                for each in seeds
            )
            turns = (attention, feed_forward) if memory is None else (attention, cross, feed_forward)
            x1, x2 = layer(x1, x2, turns, carried)
        return (x1, x2) if carried is None else carried.end(x1, x2)

    def seeds(self, seed: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each layer, the seeds of attention, feed-forward and cross-attention when the stack gets ``seed``."""
        return [
            (derive_seed(seed, index, 0), derive_seed(seed, index, 1), derive_seed(seed, index, 2))
            for index, _ in enumerate(self.layers)
        ]


def require_streams(streams: int, reversible: bool) -> None:
    """Raise ValueError unless a stack can have so many streams."""
    if streams not in (1, 2):
        raise ValueError(f"streams must be 2, or 1 for an ordinary Transformer; got {streams}")
    if streams == 1 and reversible:
        raise ValueError("one stream cannot be undone: streams=1 needs reversible=False")


class _Carried:
    """What goes up a stack beside the streams, so that rebuilt activations can come down.

    ``slots``: two tensors without memory whose gradients are the outputs of the layer below. ``outputs``: what that layer
    returned. Where a hook hands the next layer something else, and at the end, the outputs are kept (``_Kept``), and
    rebuilding starts anew from there.
    """

    def __init__(self) -> None:
        self.slots: Pair | None = None
        self.outputs: Pair | None = None
        self.versions = (0, 0)

    def through(
        self, layer: ReversibleLayer, x1: Tensor, x2: Tensor, hows: Sequence[ParallelPass | DecodingStep]
    ) -> Pair:
        """``layer`` applied to the streams, its activations to be rebuilt."""
        _require_plain_autograd(layer)
        if self.slots is None or not self._is_output(x1, x2):
            x1, x2 = self.end(x1, x2)
        slots = self.slots or (_slot(x1), _slot(x1))
        turns = [_Turn.of(branch, how) for branch, how in zip(layer.branches(), hows)]
        parameters = [p for turn in turns for p in turn.learned]
        memory = turns[0].how.memory
        rest = [*([] if memory is None else [memory]), *parameters]
        if any(turn.gathered for turn in turns) and not any(x.requires_grad for x in (x1, x2, *rest)):
            # Parameters that are gathered inside are no inputs; something must ask for the backward pass.
            x1 = x1.detach().requires_grad_()
        if x1 is x2:
            x2 = x1.view_as(x1)  # dynamo takes no tensor twice
        compiling = torch.compiler.is_compiling()
        if compiling:
            _let_dynamo_trace_autograd()
        found = _Rebuilt.apply(turns, memory is not None, x1, x2, *slots, *rest)  # type: ignore[no-untyped-call]
        y1, y2, slot1, slot2 = found
        if compiling:
            _let_dynamo_trace_as_before()
        else:
            self.versions = (y1._version, y2._version)
        self.slots, self.outputs = (slot1, slot2), (y1, y2)
        return y1, y2

    def end(self, x1: Tensor, x2: Tensor) -> Pair:
        """The streams as they are; what the last layer returned is kept for its backward pass."""
        if self.slots is None or self.outputs is None:
            return x1, x2
        self._require_unchanged(self.outputs)
        y1, y2 = (y.detach() for y in self.outputs)
        x1, x2 = _Kept.apply(x1, x2, *self.slots, y1, y2)  # type: ignore[no-untyped-call]
        self.slots = self.outputs = None
        return x1, x2

    def _require_unchanged(self, outputs: Pair) -> None:
        if not torch.compiler.is_compiling() and self.versions != (outputs[0]._version, outputs[1]._version):
            raise RuntimeError(
                "a hook changed the output of a reversible layer in place, from which its input is rebuilt; "
                "return a new tensor from the hook, or use reversible=False"
            )

    def _is_output(self, x1: Tensor, x2: Tensor) -> bool:
        assert self.outputs is not None
        self._require_unchanged(self.outputs)
        y1, y2 = self.outputs
        if torch.compiler.is_compiling():
            return x1 is y1 and x2 is y2
        # Hooks of autograd and of FSDP2 hand on a view of what they got.
        return _is_same_memory(x1, y1) and _is_same_memory(x2, y2)


class _Kept(torch.autograd.Function):
    """(x1, x2) unchanged; in the backward pass (y1, y2) are handed down as the gradients of the slots."""

    @staticmethod
    def forward(ctx: Any, x1: Tensor, x2: Tensor, slot1: Tensor, slot2: Tensor, y1: Tensor, y2: Tensor) -> Pair:
        ctx.save_for_backward(y1, y2)
        return x1.view_as(x1), x2.view_as(x2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d1: Tensor, d2: Tensor) -> tuple[Tensor | None, ...]:
        y1, y2 = ctx.saved_tensors
        return d1, d2, y1, y2, None, None


@dataclass(frozen=True)
class _Turn:
    """One residual function in one pass, with everything it differentiates by, as it was in the forward pass.

    ``names`` and ``learned``: its parameters that need a gradient. ``gathered``: some parameters are sharded below, by FSDP2,
    which gathers them when a module is called and takes care of their gradients itself.
    """

    branch: ResidualBranch
    how: ParallelPass
    names: list[str]
    learned: list[Tensor]
    held: HeldTensors | None
    gathered: bool

    @staticmethod
    def of(branch: ResidualBranch, how: Any) -> _Turn:
        if torch.compiler.is_compiling():
            named = {name: p for name, p in branch.named_parameters() if p.requires_grad}
            return _Turn(branch, how, list(named), list(named.values()), None, False)
        held = HeldTensors(branch)
        names, learned = [name for name, _ in held.learned.values()], [p for _, p in held.learned.values()]
        return _Turn(branch, how, names, learned, held, held.gathered)


class _Rebuilt(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        turns: list[_Turn],
        has_memory: bool,
        x1: Tensor,
        x2: Tensor,
        slot1: Tensor,
        slot2: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ctx.turns, ctx.has_memory = turns, has_memory
        ctx.autocast = autocast_state(x1)
        ctx.n_saved, ctx.surroundings = [], []
        saved_all: list[Tensor] = []
        stream, other = x1, x2
        # Branches alternate: f reads the second stream and adds to the first, g the other way round.
        for turn in turns:
            how = replace(turn.how, saved=[])
            with autocast_as(ctx.autocast), watched(turn.branch, x1.device, ctx.surroundings):
                update = turn.branch(other, how)
            stream, other = other, stream + update.to(stream.dtype)
            ctx.n_saved.append(len(how.saved))
            saved_all.extend(how.saved)
        ctx.save_for_backward(*saved_all, *rest)
        if not torch.compiler.is_compiling():
            ctx.set_materialize_grads(False)
        return stream, other, _slot(stream), _slot(other)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d1: Tensor | None, d2: Tensor | None, y1: Tensor | None, y2: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if y1 is None or y2 is None:
            raise RuntimeError(
                "the loss reads a layer inside a reversible stack and nothing of its end, so that there is nothing to "
                "rebuild the layer's activations from; use reversible=False, or let the loss read the stack's output too"
            )
        tensors = list(ctx.saved_tensors)
        saved_all, rest = tensors[: sum(ctx.n_saved)], tensors[sum(ctx.n_saved) :]
        memory = rest.pop(0) if ctx.has_memory else None
        d_memory: Tensor | None = None
        gradients: list[Tensor | None] = []
        other, stream = y1, y2
        d_other = torch.zeros_like(y1) if d1 is None else d1
        d_stream = torch.zeros_like(y2) if d2 is None else d2
        for index in reversed(range(len(ctx.turns))):
            turn, n_learned, n_saved = ctx.turns[index], len(ctx.turns[index].learned), ctx.n_saved[index]
            learned, saved = rest[len(rest) - n_learned :], saved_all[len(saved_all) - n_saved :]
            del rest[len(rest) - n_learned :], saved_all[len(saved_all) - n_saved :]
            surroundings = ctx.surroundings[index] if ctx.surroundings else None
            replay = _Replay(turn, learned, memory, saved, surroundings, ctx.autocast)
            update, d_input, d_read, d_learned = replay.gradients(other, d_stream)
            if d_read is not None:
                d_memory = d_read if d_memory is None else d_memory + d_read
            gradients = [*d_learned, *gradients]
            d_other = d_other + d_input
            # What was added to `stream` is taken off again; then the streams swap roles.
            other, stream = stream - update, other
            d_other, d_stream = d_stream, d_other
        shared = (d_memory,) if ctx.has_memory else ()
        return None, None, d_other, d_stream, other, stream, *shared, *gradients


@dataclass(frozen=True)
class _Replay:
    """A residual function computed again, this time with gradients."""

    turn: _Turn
    learned: list[Tensor]
    memory: Tensor | None
    saved: list[Tensor]
    surroundings: Surroundings | None
    autocast: Autocast | None

    def gradients(self, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor | None]]:
        """(update, gradient of x, of the memory, of the learned parameters) for the ``gradient`` of the update."""
        turn = self.turn
        # Leaves of their own: hooks on the real parameters must see one gradient, the one that backward returns.
        x = x.detach().requires_grad_()
        leaves = [p.detach().requires_grad_() for p in self.learned]
        memory = None if self.memory is None else self.memory.detach().requires_grad_(self.memory.requires_grad)
        wanted = [x, *leaves, *([memory] if memory is not None and memory.requires_grad else [])]
        how = replace(turn.how, saved=self.saved, memory=memory)
        if turn.held is None:
            with torch.enable_grad(), autocast_as(self.autocast):
                update = functional_call(turn.branch, dict(zip(turn.names, leaves)), (x, how)).to(x.dtype)
            found: list[Tensor | None] = [*torch.autograd.grad(update, wanted, gradient, allow_unused=True)]
        else:
            # In place until the gradients are there: a module may compute once more for them (torch.utils.checkpoint).
            with turn.held.in_place({id(p): leaf for p, leaf in zip(turn.learned, leaves)}):
                with torch.enable_grad(), autocast_as(self.autocast), restored(turn.branch, self.surroundings):
                    update = turn.branch(x, how).to(x.dtype)
                self._propagate(update, gradient)
            found = [leaf.grad for leaf in wanted]
        d_x, *d_leaves = found
        d_memory = d_leaves.pop() if len(wanted) > 1 + len(leaves) else None
        for name, gradient_of_leaf in zip(turn.names, d_leaves):
            if gradient_of_leaf is None:
                raise RuntimeError(
                    f"parameter {name!r} of a reversible layer got no gradient when the layer was computed again, and "
                    "would stand still: freeze it with requires_grad_(False), or use reversible=False"
                )
        return update.detach(), torch.zeros_like(x) if d_x is None else d_x, d_memory, d_leaves

    def _propagate(self, update: Tensor, gradient: Tensor) -> None:
        # Into the leaves, and into whatever else a hook or FSDP2 brought into the graph. Every product in the dtype that it
        # had in the forward pass, also if autocast is on around the backward pass.
        if update.requires_grad:
            with nullcontext() if self.autocast is None else torch.autocast(self.autocast[0], enabled=False):
                torch.autograd.backward(update, gradient)


def _require_known_randomness(layer: nn.Module) -> None:
    for name, module in layer.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0.0:
            raise RuntimeError(
                f"{name!r} in a reversible layer draws random numbers that a compiled backward pass cannot draw again; "
                "use reversible=False or no torch.compile"
            )


def _require_plain_autograd(layer: nn.Module) -> None:
    if torch.compiler.is_compiling():
        _require_known_randomness(layer)
        return
    if torch._C._are_functorch_transforms_active():
        raise RuntimeError(
            "reversible layers have no rule for torch.func's transforms (grad, vmap, jacrev, ..); use reversible=False"
        )
    if getattr(layer, "_is_replica", False):
        raise RuntimeError("reversible layers cannot run in nn.DataParallel; use DistributedDataParallel")


def _slot(x: Tensor) -> Tensor:
    return torch.zeros((), dtype=x.dtype, device=x.device).expand(x.shape)


def _is_same_memory(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.data_ptr() == b.data_ptr() and (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype))


# torch.autograd.grad in a backward pass is behind a switch of dynamo's (off in 2.13). These run while dynamo traces, one
# after the other, and at no other time.
_switch_before: list[bool] = []


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _let_dynamo_trace_autograd() -> bool:
    config = torch._dynamo.config
    if hasattr(config, "trace_autograd_ops"):
        _switch_before.append(config.trace_autograd_ops)
        config.trace_autograd_ops = True
    return True


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _let_dynamo_trace_as_before() -> bool:
    if _switch_before:
        torch._dynamo.config.trace_autograd_ops = _switch_before.pop()
    return True
