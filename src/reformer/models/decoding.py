"""Cached decoding of a language model: a parallel pass over the prompt, then token after token at a constant cost.

B batch, T new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from reformer.layers import DecodingStep, MemoryCache, NewTokens, ReversibleStack
from reformer.models.config import ReformerConfig
from reformer.ops import as_seed, automatic_n_buckets, derive_seed
from reformer.ops.checks import require_at_least, require_integer, require_shape
from reformer.ops.decoding import AttentionCache
from reformer.ops.hashing import Buckets, bucket_factors

STACK_SEED = 0


class Decoding(Protocol):
    """What a decoding state needs of a model."""

    stack: ReversibleStack

    @property
    def config(self) -> ReformerConfig:
        """Its config, whose ``attention`` is that of ``stack``."""

    def add_positions(self, x: Tensor, position_ids: Tensor | None) -> Tensor:
        """x [B, L, d_model] with its positions added, where they are added and not rotated."""


class DecodingState:
    """A generation so far: what each layer remembers, and what is fixed until its end.

    Attributes:
        length: columns decoded so far, padding included.
        counts: [B] int64, the real tokens among them.
        max_len: columns that the generation may have.
        n_buckets: of the LSH layers. A generation cannot change it, so the config's automatic number is the one for
            ``max_len`` tokens; the parallel pass of ``model.with_changes(n_buckets=state.n_buckets)`` is the same function.
    """

    def __init__(self, model: Decoding, batch_size: int, max_len: int | None, seed: int | Tensor) -> None:
        config = model.config
        require_at_least("batch_size", batch_size, 1)
        if not config.causal:
            raise ValueError("only a causal model decodes token by token; this one sees both ways (causal=False)")
        if max_len is None:
            max_len = config.longest_input
        if max_len is None:
            raise ValueError(
                f"positions={config.positions!r} have no longest input: give max_len, the most tokens to come"
            )
        require_at_least("max_len", max_len, 1)
        config.require_length(max_len)
        self.length, self.max_len = 0, max_len
        n_buckets = config.n_buckets
        self.n_buckets: Buckets = automatic_n_buckets(max_len, config.lsh_chunk_len) if n_buckets is None else n_buckets
        self.counts = torch.zeros(batch_size, dtype=torch.int64, device="cpu")
        self.seed = as_seed(seed)
        # Made with the first tokens, whose device and dtype the layers may not tell (weights offloaded or quantised).
        self.caches: list[AttentionCache] = []

    @property
    def batch_size(self) -> int:
        """Rows."""
        return self.counts.shape[0]

    def begin(self, stack: ReversibleStack, dtype: torch.dtype, device: torch.device) -> None:
        """Make the layers' caches, with the rotations of the parallel pass under the same seed, if they are not there."""
        if self.caches:
            return
        self.counts = self.counts.to(device)
        seeds = stack.seeds(derive_seed(self.seed, STACK_SEED))
        self.caches = [
            layer.attention.empty_cache(
                batch=self.batch_size,
                max_len=self.max_len,
                seed=seed,
                n_buckets=self.n_buckets,
                dtype=dtype,
                device=device,
            )
            for layer, (seed, _, _) in zip(stack.layers, seeds)
        ]

    def reorder(self, rows: Tensor) -> None:
        """Row b becomes what row ``rows[b]`` was (beam search); ``rows`` may be more or fewer than the batch.

        Raises ValueError or TypeError unless ``rows`` is a list of rows.
        """
        require_integer("rows", rows)
        require_shape("rows", rows, (None,), "the rows to keep")
        rows = rows.long().to(self.counts.device)
        self.counts = self.counts[rows]
        for cache in self.caches:
            cache.reorder(rows)

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything, the rotations too, as tensors that safetensors can save."""
        numbers = {"length": self.length, "max_len": self.max_len, "n_buckets": bucket_factors(self.n_buckets)}
        tensors = {name: torch.tensor(number, dtype=torch.int64, device="cpu") for name, number in numbers.items()}
        tensors["seed"], tensors["counts"] = self.seed.clone(), self.counts.clone()
        for index, cache in enumerate(self.caches):
            tensors |= {f"layers.{index}.{name}": x for name, x in cache.to_tensors(self.length).items()}
        return tensors

    @classmethod
    def from_tensors(cls, model: Decoding, tensors: Mapping[str, Tensor]) -> DecodingState:
        """The state that ``to_tensors`` of a state of ``model`` returned.

        Raises ValueError if a tensor is missing or does not fit the model.
        """
        missing = [name for name in ("length", "max_len", "n_buckets", "counts") if name not in tensors]
        if missing:
            raise ValueError(f"these are not the tensors of a decoding state: {', '.join(missing)} missing")
        counts = tensors["counts"]
        # States of earlier versions have no seed; their caches hold the rotations.
        state = cls(model, counts.shape[0], int(tensors["max_len"]), tensors.get("seed", as_seed(0)))
        if bucket_factors(state.n_buckets) != tuple(tensors["n_buckets"].tolist()):
            raise ValueError(
                f"this state was made with n_buckets={tensors['n_buckets'].tolist()}, "
                f"the model makes {list(bucket_factors(state.n_buckets))}; use the model that made it"
            )
        state.length = int(tensors["length"])
        state.counts = counts.to(torch.int64).clone()
        layers = {name: x for name, x in tensors.items() if name.startswith("layers.")}
        if state.length == 0 and not layers:
            return state
        some = next(model.stack.parameters())
        keys = layers.get("layers.0.keys")
        state.begin(model.stack, some.dtype if keys is None else keys.dtype, some.device)
        for index, cache in enumerate(state.caches):
            prefix = f"layers.{index}."
            own = {name.removeprefix(prefix): x for name, x in layers.items() if name.startswith(prefix)}
            try:
                cache.from_tensors(own, state.length, state.counts)
            except ValueError as error:
                raise ValueError(f"layer {index} of this state does not fit the model: {error}") from None
        return state


def decode_streams(
    model: Decoding,
    x: Tensor,
    state: DecodingState,
    segment_ids: Tensor | None,
    last_only: bool,
    memories: Sequence[MemoryCache] | None = None,
) -> tuple[Tensor, Tensor]:
    """Both streams [B, T, d_model] after the stack, of the embeddings x [B, T, d_model] of the next tokens."""
    require_shape(
        "the input", x, (state.batch_size, None, model.config.d_model), "[batch of the state, tokens, d_model]"
    )
    T = x.shape[1]
    require_at_least("the number of tokens", T, 1)
    if state.length + T > state.max_len:
        raise ValueError(
            f"{state.length} tokens and {T} new ones exceed the state's max_len={state.max_len}; "
            f"make the state with max_len of at least {state.length + T}"
        )
    state.begin(model.stack, x.dtype, x.device)
    new = _new_tokens(state, T, segment_ids)
    x = model.add_positions(x, new.position_ids)
    steps = []
    for index, cache in enumerate(state.caches):
        cache.reserve(state.length + T)
        memory = None if memories is None else memories[index]
        steps.append(DecodingStep(new=new, attention=cache, memory=memory))
    y1, y2 = model.stack(x, x, decoding=steps)
    state.length += T
    state.counts = state.counts + (T if new.is_real is None else new.is_real.sum(1))
    return (y1[:, -1:], y2[:, -1:]) if last_only else (y1, y2)


def _new_tokens(state: DecodingState, T: int, segment_ids: Tensor | None) -> NewTokens:
    is_real = None if segment_ids is None else _real_tokens(segment_ids, state.batch_size, T)
    # A first token alone needs no parallel pass.
    in_parallel = state.length == 0 and T > 1
    before = state.counts[:, None]
    if is_real is None:
        places = None if state.length == 0 else before + torch.arange(T, dtype=torch.int64, device=before.device)
    else:
        places = (before + is_real.cumsum(1) - 1).masked_fill(~is_real, 0)
    return NewTokens(
        counts=state.counts,
        is_real=is_real,
        position_ids=places,
        in_parallel=in_parallel,
        real_first=_real_first(is_real) if in_parallel and is_real is not None else None,
    )


def _real_first(is_real: Tensor) -> Tensor:
    """Columns [B, T]: those of real tokens in their order, then those of padding."""
    return torch.sort((~is_real).int(), dim=1, stable=True).indices


def _real_tokens(segment_ids: Tensor, batch: int, T: int) -> Tensor | None:
    """Which tokens are no padding [B, T]; None if all."""
    require_shape("segment_ids", segment_ids, (batch, T), "[batch, tokens of this call]")
    require_one_segment("segment_ids", segment_ids)
    is_real = segment_ids >= 0
    return None if bool(is_real.all()) else is_real


def require_one_segment(name: str, segment_ids: Tensor) -> None:
    """Raise TypeError unless ``segment_ids`` [B, L] are integers, ValueError unless each row is one segment and padding."""
    require_integer(name, segment_ids)
    first = segment_ids.amax(1, keepdim=True)
    if not bool(((segment_ids == first) | (segment_ids < 0)).all()):
        raise ValueError(
            f"in decoding a row is one segment: {name} must be one number >= 0 for its tokens and negative for "
            "padding; decode packed texts as rows of their own"
        )
