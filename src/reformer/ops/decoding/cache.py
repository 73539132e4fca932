"""What one attention layer remembers of the tokens of a generation, and whom the newest token sees.

Only real tokens are kept: the token at place p among a row's real tokens lies in slot p, or p modulo the number of slots
where old tokens go out of reach for good. So padding, on whichever side, is nowhere in a cache.

B batch, H heads, S slots, D key size, E value size, R hash rounds.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from reformer.ops.attention import native
from reformer.ops.attention.reach import Reach
from reformer.ops.checks import require_shape
from reformer.ops.decoding.native import NativeStep
from reformer.ops.hashing import Buckets, bucket_factors

# Memory at the start; it doubles when it is full.
_FIRST_SLOTS = 256


class AttentionCache:
    """Keys, values and buckets of the real tokens so far.

    Attributes:
        keys: [B, H, S, D]; of shared QK the unit vectors q/||q||.
        values: [B, H, S, E].
        buckets: [B, H, R, S] int32, or None without hashing.
        rotations: [H, D, R, columns], fixed for the generation, or None.
        native: the C++ kernel's own view of the cache, if that is what decodes.
    """

    def __init__(
        self,
        reach: Reach,
        *,
        batch: int,
        heads: int,
        key_width: int,
        value_width: int,
        max_len: int,
        dtype: torch.dtype,
        device: torch.device,
        rotations: Tensor | None = None,
        n_buckets: Buckets | None = None,
        impl: str = "auto",
    ) -> None:
        """``impl``: "native" (C++, a cost that does not grow with the length), "eager" (plain PyTorch, any device, looks
        at every slot), or "auto", native where it can serve. Rotations and ``n_buckets`` are those of LSH attention.

        Raises ValueError for an ``impl`` that cannot serve, and for a reach that looks ahead of the newest token.
        """
        if not reach.causal or (reach.wrap and reach.pattern == "position"):
            raise ValueError(f"decoding needs causal=True and no wrap, for nobody sees later tokens; got {reach}")
        self.reach, self.max_len, self.rotations = reach, max_len, rotations
        self.factors = () if n_buckets is None else bucket_factors(n_buckets)
        farthest = reach.farthest
        self.is_ring = farthest is not None and farthest < max_len
        slots = farthest if farthest is not None and self.is_ring else min(_FIRST_SLOTS, max_len)
        # Zeros: what is not filled yet is multiplied with a weight of 0, which NaN would survive.
        self.keys = torch.zeros(batch, heads, slots, key_width, dtype=dtype, device=device)
        self.values = torch.zeros(batch, heads, slots, value_width, dtype=dtype, device=device)
        self.buckets: Tensor | None = None
        if rotations is not None:
            self.buckets = torch.zeros(batch, heads, rotations.shape[2], slots, dtype=torch.int32, device=device)
        obstacle = native.obstacle(device, dtype, key_width)
        if impl == "native" and obstacle is not None:
            raise ValueError(f"impl='native' cannot decode here: {obstacle}; use impl='auto'")
        self.native = NativeStep(self) if impl != "eager" and obstacle is None else None

    @property
    def slots(self) -> int:
        """Tokens of a row that fit in."""
        return self.keys.shape[2]

    def reserve(self, length: int) -> None:
        """Make room for ``length`` tokens of a row, by doubling."""
        if self.is_ring or length <= self.slots:
            return
        slots = min(max(length, 2 * self.slots), self.max_len)
        self.keys, self.values = _longer(self.keys, 2, slots), _longer(self.values, 2, slots)
        if self.buckets is not None:
            self.buckets = _longer(self.buckets, 3, slots)
        if self.native is not None:
            self.native.reserve(self)

    def reorder(self, rows: Tensor) -> None:
        """Row b becomes what row ``rows[b]`` was; there may be more or fewer rows than before."""
        self.keys, self.values = self.keys[rows], self.values[rows]
        if self.buckets is not None:
            self.buckets = self.buckets[rows]
        if self.native is not None:
            self.native.reorder(self, rows)

    def to_tensors(self, length: int) -> dict[str, Tensor]:
        """What is filled by at most ``length`` tokens of a row, and the rotations."""
        n = min(length, self.slots)
        tensors = {"keys": self.keys[:, :, :n].clone(), "values": self.values[:, :, :n].clone()}
        if self.buckets is not None and self.rotations is not None:
            tensors |= {"buckets": self.buckets[..., :n].clone(), "rotations": self.rotations.clone()}
        return tensors

    def from_tensors(self, tensors: Mapping[str, Tensor], length: int, counts: Tensor) -> None:
        """Fill an empty cache with what ``to_tensors`` returned. Raises ValueError for tensors of another layer."""
        self.reserve(length)
        n = min(length, self.slots)
        mine = {
            name: x for name in ("keys", "values", "buckets", "rotations") if (x := getattr(self, name)) is not None
        }
        if sorted(mine) != sorted(tensors):
            raise ValueError(
                f"expected the tensors {', '.join(sorted(mine))}, got {', '.join(sorted(tensors)) or 'none'}"
            )
        for name, x in mine.items():
            part = x if name == "rotations" else x[..., :n] if name == "buckets" else x[:, :, :n]
            require_shape(name, tensors[name], tuple(part.shape), "as saved for this layer")
            part.copy_(tensors[name])
        if self.native is not None:
            self.native.rebuild(self, counts)

    def held_places(self, last: Tensor) -> Tensor:
        """The place of the token in each slot [B, S] when ``last`` [B] is the newest; negative for an empty slot."""
        slot = torch.arange(self.slots, dtype=torch.int64, device=last.device)
        return last[:, None] - (last[:, None] - slot) % self.slots


def _longer(x: Tensor, axis: int, size: int) -> Tensor:
    longer = x.new_zeros(*x.shape[:axis], size, *x.shape[axis + 1 :])
    longer.narrow(axis, 0, x.shape[axis]).copy_(x)
    return longer
