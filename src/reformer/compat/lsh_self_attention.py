"""reformer-pytorch's ``LSHSelfAttention``: its signature and parameter names, our attention.

B batch, L length, H heads, D head size, M tokens that stand before the sequence (memory and context).
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from reformer.layers.attention import split_width
from reformer.layers.passes import resolve_seed
from reformer.ops import derive_seed, dropout, full_attention, local_attention, lsh_attention, seeded_buckets
from reformer.ops.checks import require_at_least, require_dropout, require_shape

# Options of its inner LSHAttention that its layer passes on: only these values are what our ops compute.
_FIXED = {"rehash_each_round": True, "drop_for_hash_rate": 0.0}
# Sub-streams of a call's seed.
_ROTATIONS, _HASHED_DROPOUT, _LOCAL_DROPOUT, _OUTPUT_DROPOUT = range(4)


class LSHSelfAttention(nn.Module):
    """LSH attention behind the constructor and call of reformer-pytorch 1.4.4; its state_dict loads.

    Any length. The logits are q·k/||k|| without its further D^-0.5: multiply ``toqk.weight`` of a layer trained there by
    dim_head^-0.5 once, and it computes here what it computed there. Rotations are drawn for every call from torch's global
    generator in training and are fixed in evaluation. docs/drop-in.md lists what every option does.

    Raises ValueError or TypeError for an option that is not computed here; none is accepted and ignored.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        bucket_size: int = 64,
        n_hashes: int = 8,
        causal: bool = False,
        dim_head: int | None = None,
        attn_chunks: int | None = 1,
        random_rotations_per_head: bool = False,
        attend_across_buckets: bool = True,
        allow_duplicate_attention: bool = True,
        num_mem_kv: int = 0,
        one_value_head: bool = False,
        use_full_attn: bool = False,
        full_attn_thres: int | None = None,
        return_attn: bool = False,
        post_attn_dropout: float = 0.0,
        dropout: float = 0.0,
        n_local_attn_heads: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        _reject_options(attn_chunks, return_attn, kwargs)
        self.pattern = _pattern_of(attend_across_buckets, allow_duplicate_attention)
        for name, size in (("dim", dim), ("heads", heads), ("bucket_size", bucket_size), ("n_hashes", n_hashes)):
            require_at_least(name, size, 1)
        require_at_least("num_mem_kv", num_mem_kv, 0)
        for p in (dropout, post_attn_dropout):
            require_dropout(p, dropout_seed=0)
        if not 0 <= n_local_attn_heads < heads:
            raise ValueError(f"n_local_attn_heads must be at least 0 and below heads={heads}, got {n_local_attn_heads}")
        self.dim_head, width = split_width(dim, heads, dim_head, None if dim_head is None else dim_head * heads)
        self.dim, self.heads, self.bucket_size, self.n_hashes, self.causal = dim, heads, bucket_size, n_hashes, causal
        self.random_rotations_per_head, self.n_local_attn_heads = random_rotations_per_head, n_local_attn_heads
        self.use_full_attn, self.num_mem_kv = use_full_attn, num_mem_kv
        self.full_attn_thres = bucket_size if full_attn_thres is None else full_attn_thres
        self.dropout, self.post_attn_dropout = dropout, post_attn_dropout
        self.toqk = nn.Linear(dim, width, bias=False)
        self.tov = nn.Linear(dim, self.dim_head if one_value_head else width, bias=False)
        self.to_out = nn.Linear(width, dim)
        self.mem_kv = nn.Parameter(torch.randn(1, num_mem_kv, dim)) if num_mem_kv else None

    def forward(
        self,
        x: Tensor,
        keys: Tensor | None = None,
        input_mask: Tensor | None = None,
        input_attn_mask: None = None,
        context_mask: Tensor | None = None,
        pos_emb: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attention of x [B, L, dim] to itself, to the memory and to ``keys`` [B, C, dim]; returns [B, L, dim].

        ``input_mask`` [B, L] and ``context_mask`` [B, C] are bool, False for padding: it changes no real token's output.
        ``pos_emb`` [1, L, D]: sines, then cosines, by which queries and keys are rotated after hashing.
        """
        _reject_arguments(input_attn_mask, kwargs)
        self._check(x, keys, input_mask, context_mask, pos_emb)
        seed = resolve_seed(None, self.training)
        before, before_mask = self._tokens_before(x, keys, input_mask, context_mask)
        M = before.shape[1]
        everything = torch.cat([before, x], dim=1)
        mask = None if input_mask is None and before_mask is None else _joined(before_mask, input_mask, before, x)
        qk, v = self._heads(self.toqk(everything)), self._heads(self.tov(everything))
        n_local = self.n_local_attn_heads
        out = self._hashed(qk[:, n_local:], v[:, n_local:], mask, pos_emb, seed)[:, :, M:]
        if n_local:
            local = self._local(qk[:, :n_local, M:], v[:, :n_local, M:], input_mask, seed)
            out = torch.cat([local, out], dim=1)
        out = self.to_out(out.transpose(1, 2).flatten(2))
        return dropout(out, self.post_attn_dropout if self.training else 0.0, derive_seed(seed, _OUTPUT_DROPOUT))

    def _heads(self, x: Tensor) -> Tensor:
        """[B, L, width] as [B, H, L, D]; the one value head serves all."""
        heads: Tensor = x.unflatten(-1, (-1, self.dim_head))
        return heads.transpose(1, 2).expand(-1, self.heads, -1, -1)

    def _tokens_before(
        self, x: Tensor, keys: Tensor | None, input_mask: Tensor | None, context_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Memory and context [B, M, dim] with their mask. Standing before the sequence, all of it may look at them."""
        before = x.new_empty(x.shape[0], 0, self.dim)
        if self.mem_kv is not None:
            before = self.mem_kv.to(x.dtype).expand(x.shape[0], -1, -1)
        if keys is None:
            return before, None
        mask = None if context_mask is None else _joined(None, context_mask, before, keys)
        return torch.cat([before, keys], dim=1), mask

    def _hashed(self, qk: Tensor, v: Tensor, mask: Tensor | None, pos_emb: Tensor | None, seed: Tensor) -> Tensor:
        """LSH or full attention [B, H, M + L, D]; the positions come after hashing, which looks at content alone."""
        rotated = qk if pos_emb is None else _rotated(qk, pos_emb)

        def attend(hashed: Tensor, qk: Tensor, v: Tensor) -> Tensor:
            return self._attend(hashed, qk, v.to(qk.dtype), seed)

        return _without_padding(attend, (qk, rotated, v), mask)

    def _attend(self, hashed: Tensor, qk: Tensor, v: Tensor, seed: Tensor) -> Tensor:
        L = qk.shape[2]
        dropout_p = self.dropout if self.training else 0.0
        # Rows of different lengths come in separate calls: the length keeps their draws apart.
        common: dict[str, Any] = {
            "causal": self.causal,
            "scale": 1.0,
            "dropout_p": dropout_p,
            "dropout_seed": derive_seed(seed, _HASHED_DROPOUT, L) if dropout_p else None,
        }
        if self.use_full_attn or self.full_attn_thres >= L:
            return cast(Tensor, full_attention(qk, None, v, **common))
        buckets = self._buckets(hashed, derive_seed(seed, _ROTATIONS))
        out = lsh_attention(qk, v, buckets, chunk_len=self.bucket_size, pattern=self.pattern, **common)
        return cast(Tensor, out)

    def _buckets(self, qk: Tensor, seed: Tensor) -> Tensor:
        """Buckets [B, H, R, L], about L / bucket_size of them, by rotations of its own for each head or one for all."""
        B, H = qk.shape[:2]
        rows = qk if self.random_rotations_per_head else qk.flatten(0, 1)[:, None]
        # The automatic number is 2·L / chunk_len.
        buckets = seeded_buckets(rows, seed, n_hashes=self.n_hashes, n_buckets=None, chunk_len=2 * self.bucket_size)
        return buckets.view(B, H, self.n_hashes, -1)

    def _local(self, qk: Tensor, v: Tensor, input_mask: Tensor | None, seed: Tensor) -> Tensor:
        dropout_p = self.dropout if self.training else 0.0
        out = local_attention(
            qk,
            None,
            v.to(qk.dtype),
            causal=self.causal,
            chunk_len=2 * self.bucket_size,
            n_chunks_after=0 if self.causal else 1,
            segment_ids=None if input_mask is None else input_mask.long() - 1,
            dropout_p=dropout_p,
            dropout_seed=derive_seed(seed, _LOCAL_DROPOUT) if dropout_p else None,
        )
        return cast(Tensor, out)

    def _check(
        self,
        x: Tensor,
        keys: Tensor | None,
        input_mask: Tensor | None,
        context_mask: Tensor | None,
        pos_emb: Tensor | None,
    ) -> None:
        require_shape("x", x, (None, None, self.dim), "[batch, length, dim]")
        B, L, _ = x.shape
        if min(B, L) < 1:
            raise ValueError(f"x must have at least one row and one token, got shape {list(x.shape)}")
        if keys is not None:
            require_shape("keys", keys, (B, None, self.dim), "[batch, context length, dim]")
        elif context_mask is not None:
            raise ValueError("context_mask belongs to keys, which are None; use input_mask for the padding of x")
        for name, mask, length in (
            ("input_mask", input_mask, L),
            ("context_mask", context_mask, 0 if keys is None else keys.shape[1]),
        ):
            if mask is not None:
                require_shape(name, mask, (B, length), "[batch, length]")
                if mask.dtype != torch.bool:
                    raise TypeError(f"{name} must be bool, True for real tokens, got {mask.dtype}; use mask.bool()")
        if pos_emb is not None:
            require_shape("pos_emb", pos_emb, (1, L, self.dim_head), "[1, length, head size] (sines, then cosines)")


def _joined(before_mask: Tensor | None, mask: Tensor | None, before: Tensor, x: Tensor) -> Tensor:
    """The mask of ``before`` and x together; None is all real."""
    masks = [
        torch.ones(t.shape[:2], dtype=torch.bool, device=t.device) if m is None else m
        for m, t in ((before_mask, before), (mask, x))
    ]
    return torch.cat(masks, dim=1)


def _without_padding(
    attend: Callable[..., Tensor], tensors: tuple[Tensor, Tensor, Tensor], mask: Tensor | None
) -> Tensor:
    """``attend`` of every row's real tokens alone [B, H, L, D], 0 for padding; rows of one length go together.

    So padding is inert by construction, also in pattern "trax" (which would count it when it wraps) and where the number
    of tokens decides between LSH and full attention.
    """
    if mask is None:
        return attend(*tensors)
    B, H, L, D = tensors[0].shape
    lengths = mask.sum(1)
    out = torch.zeros(B, L, H, D, dtype=tensors[0].dtype, device=mask.device)
    for length in lengths.unique().tolist():
        if length == 0:
            continue
        real = mask & (lengths == length)[:, None]
        rows = [t.transpose(1, 2)[real].unflatten(0, (-1, length)).transpose(1, 2) for t in tensors]
        out[real] = attend(*rows).transpose(1, 2).flatten(0, 1)
    return out.transpose(1, 2)


def _rotated(qk: Tensor, pos_emb: Tensor) -> Tensor:
    """qk [B, H, M + L, D], its last L tokens rotated pair by pair by the angles whose sines and cosines are given."""
    L = pos_emb.shape[1]
    sin, cos = (half.repeat_interleave(2, dim=-1) for half in pos_emb[0].to(qk.dtype).chunk(2, dim=-1))
    before, tokens = qk[:, :, : qk.shape[2] - L], qk[:, :, qk.shape[2] - L :]
    turned = torch.stack([-tokens[..., 1::2], tokens[..., ::2]], dim=-1).flatten(-2)
    return torch.cat([before, tokens * cos + turned * sin], dim=2)


def _pattern_of(attend_across_buckets: bool, allow_duplicate_attention: bool) -> str:
    """The pattern of ``reformer.ops.lsh_attention`` that both options describe. Raises ValueError if none does."""
    if attend_across_buckets != allow_duplicate_attention:
        raise ValueError(
            "attend_across_buckets and allow_duplicate_attention must be both True (as the released checkpoints were "
            "trained) or both False (the paper's text), got "
            f"attend_across_buckets={attend_across_buckets}, allow_duplicate_attention={allow_duplicate_attention}"
        )
    return "trax" if attend_across_buckets else "paper"


def _reject_options(attn_chunks: int | None, return_attn: bool, others: Mapping[str, Any]) -> None:
    """Raise unless the constructor's remaining options ask for what is computed here."""
    if attn_chunks not in (None, 1):
        raise ValueError(
            f"attn_chunks must be 1, got {attn_chunks}: it saved memory there and is not needed here, for no copy of "
            "queries, keys and values per hash round is made; leave it out"
        )
    if return_attn:
        raise ValueError(
            "return_attn must be False, got True: no attention matrix is ever made; on short inputs compute it from "
            "reformer.ops.lsh_attention(..., return_lse=True)"
        )
    for name, value in others.items():
        if name not in _FIXED:
            raise TypeError(f"LSHSelfAttention has no option {name!r}; docs/drop-in.md lists those it has")
        if value != _FIXED[name]:
            raise ValueError(f"{name} must be {_FIXED[name]}, got {value}: nothing else is computed here; leave it out")


def _reject_arguments(input_attn_mask: object, others: Mapping[str, Any]) -> None:
    """Raise unless the remaining arguments of a call ask for what is computed here."""
    if input_attn_mask is not None:
        raise ValueError(
            "input_attn_mask must be None: LSH attention takes no mask of pairs; use input_mask for padding and "
            "causal=True for order, or torch's scaled_dot_product_attention for any other mask"
        )
    for name in others:
        hint = "docs/drop-in.md lists those it has"
        if name in ("_reverse", "_depth"):
            hint = "it belongs to reformer-pytorch's reversible blocks; use reformer.layers.ReversibleStack"
        raise TypeError(f"LSHSelfAttention's call has no argument {name!r}; {hint}")
