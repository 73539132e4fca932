"""``accelerate(model)``: the attention of a loaded transformers Reformer computed by our ops, in place.

The layers keep their parameters, names and hooks; their class becomes a subclass of transformers' own whose forward pass
calls ours where it computes the same function, and transformers' elsewhere. For LSH layers that function is pattern "trax".
What it gains is measured by benchmarks/hf_accelerate.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.models.reformer import modeling_reformer as theirs

from reformer.ops import full_attention, hash_vectors, local_attention, lsh_attention


@dataclass(frozen=True, kw_only=True)
class Accelerated:
    """What ``accelerate`` did: names of the layers that are ours now, and why each of the others is not."""

    replaced: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} of {len(self.replaced) + len(self.left)} attention layers accelerated"]
        return "\n".join([*lines, *(f"left alone: {name}: {reason}" for name, reason in self.left.items())])


def accelerate(model: nn.Module) -> Accelerated:
    """Let every attention layer of a transformers Reformer be computed by our ops, in place, training included.

    The same weights, rotations (drawn where transformers draws them) and buckets give the same outputs; outputs at
    padding differ, and are read by nothing. Decoding with a cache, and ``output_attentions``, still run transformers'
    code. Unlike there, gradients are right under dropout, and ``hash_seed`` leaves torch's global generator alone.

    Raises ValueError if the model has no such layer. Doing it twice changes nothing.
    """
    report = Accelerated()
    for name, module in model.named_modules():
        if isinstance(module, theirs.LSHSelfAttention):
            if not isinstance(module, AcceleratedLSHSelfAttention):
                module.__class__ = AcceleratedLSHSelfAttention
            report.replaced.append(name)
        elif isinstance(module, theirs.LocalSelfAttention):
            obstacle = _local_obstacle(module)
            if obstacle is not None:
                report.left[name] = obstacle
                continue
            module.__class__ = AcceleratedLocalSelfAttention
            report.replaced.append(name)
    if not (report.replaced or report.left):
        raise ValueError(
            f"{type(model).__name__} has no LSHSelfAttention or LocalSelfAttention of transformers to accelerate; give a "
            "model loaded by transformers.ReformerModel or one of the classes with its heads"
        )
    return report


class AcceleratedLSHSelfAttention(theirs.LSHSelfAttention):
    """transformers' LSH attention: rounds end to end, look-back wraps, across buckets, duplicates counted."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """As transformers' forward pass: hidden_states [B, L, hidden_size], ``buckets`` those of the forward pass."""
        if _is_theirs(self, options):
            return super().forward(hidden_states, attention_mask=attention_mask, **options)
        buckets = options.get("buckets")
        qk, v = _heads(self, self.query_key(hidden_states)), _heads(self, self.value(hidden_states))
        segments = _segments(attention_mask)
        hashed = hidden_states.shape[1] > self.chunk_length
        if hashed:
            buckets = self._buckets(qk, attention_mask, options.get("num_hashes") or self.num_hashes, buckets)
        common = {"causal": self.is_decoder, "segment_ids": segments, "scale": 1.0, **_dropout(self)}
        if hashed:
            out = lsh_attention(
                qk,
                v,
                cast(Tensor, buckets),
                chunk_len=self.chunk_length,
                pattern="trax",
                n_chunks_before=self.num_chunks_before,
                n_chunks_after=self.num_chunks_after,
                **common,
            )
        else:
            out = full_attention(qk, None, v, **common)
        return theirs.LSHSelfAttentionOutput(
            hidden_states=_merged(cast(Tensor, out)), attention_probs=(), buckets=buckets
        )

    def _buckets(self, qk: Tensor, attention_mask: Tensor | None, R: int, buckets: Tensor | None) -> Tensor:
        """Buckets [B, H, R, L] numbered as transformers does; ``buckets``, if given, are those of the forward pass."""
        B, H, L, _ = qk.shape
        if buckets is not None:
            # A recomputation: the draw is repeated, so that the dropout after it finds the generator where it was.
            buckets = buckets.view(B, H, -1, L)
            self._rotations(qk, buckets.shape[2])
            return buckets
        if self.num_buckets is None:
            self._set_num_buckets(L)
        factors = _factors(self.num_buckets)
        buckets = hash_vectors(qk, self._rotations(qk, R), factors)
        n_buckets = math.prod(factors)
        if attention_mask is not None and not bool(attention_mask.bool().all()):
            # Padding has a bucket of its own, the last.
            buckets = buckets.masked_fill(~attention_mask.bool()[:, None, None, :], n_buckets)
            n_buckets += 1
        return buckets + n_buckets * torch.arange(R, device=buckets.device)[:, None]

    def _rotations(self, qk: Tensor, R: int) -> Tensor:
        """The random rotations [H, D, R, columns] that transformers draws at this point."""
        shape = (qk.shape[1], qk.shape[3], R, sum(_factors(self.num_buckets)) // 2)
        generator = None
        if self.hash_seed is not None:
            generator = torch.Generator(qk.device).manual_seed(self.hash_seed)
        return torch.randn(shape, generator=generator, device=qk.device, dtype=qk.dtype)


class AcceleratedLocalSelfAttention(theirs.LocalSelfAttention):
    """transformers' causal local attention: chunks counted from the first position, look-back by whole chunks."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """As transformers' forward pass: hidden_states [B, L, hidden_size]."""
        if _is_theirs(self, options) or not self._same(attention_mask):
            return super().forward(hidden_states, attention_mask=attention_mask, **options)
        q, k, v = (_heads(self, project(hidden_states)) for project in (self.query, self.key, self.value))
        out = local_attention(
            q,
            k,
            v,
            causal=True,
            chunk_len=self.chunk_length,
            n_chunks_before=self.num_chunks_before,
            segment_ids=_segments(attention_mask),
            **_dropout(self),
        )
        return theirs.LocalSelfAttentionOutput(hidden_states=_merged(cast(Tensor, out)), attention_probs=())

    def _same(self, attention_mask: Tensor | None) -> bool:
        """Whether our function is theirs: ours counts chunks from the first real token, so padding must come last."""
        return attention_mask is None or bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all())


def _local_obstacle(module: Any) -> str | None:
    """Why a local layer is left alone; None if it is not."""
    if not module.is_decoder:
        return "bidirectional local attention wraps around there (the first chunk sees the last), which ours does not"
    if module.num_chunks_after != 0:
        return f"local_num_chunks_after={module.num_chunks_after}: the last chunk sees the first one there, by wrapping"
    if module.num_chunks_before > 1:
        return f"local_num_chunks_before={module.num_chunks_before}: wraps onto itself there where there are few chunks"
    return None


def _is_theirs(module: Any, options: Mapping[str, Any]) -> bool:
    """Whether transformers computes it: with probabilities wanted, or a cache that holds something of this layer already."""
    cache = options.get("past_buckets_states")
    is_step = cache is not None and len(cache) > module.layer_idx
    return is_step or bool(options.get("output_attentions"))


def _factors(n_buckets: Any) -> tuple[int, ...]:
    return (n_buckets,) if isinstance(n_buckets, int) else tuple(n_buckets)


def _segments(attention_mask: Tensor | None) -> Tensor | None:
    """1 for a real token and 0 for padding [B, L], as segment ids 0 and -1."""
    return None if attention_mask is None else attention_mask.bool().long() - 1


def _dropout(module: Any) -> dict[str, Any]:
    """The op's dropout arguments. The seed is a draw that the backward pass, seeded alike, repeats."""
    if not module.training or module.dropout == 0.0:
        return {}
    return {"dropout_p": module.dropout, "dropout_seed": torch.randint(0, 2**62, ())}


def _heads(module: Any, x: Tensor) -> Tensor:
    heads: Tensor = x.unflatten(-1, (module.num_attention_heads, module.attention_head_size))
    return heads.transpose(1, 2)


def _merged(out: Tensor) -> Tensor:
    return out.transpose(1, 2).flatten(2)
