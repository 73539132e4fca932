"""Who sees whom in attention, and which pairs it drops: values that are made and checked once, and travel whole."""

from typing import NamedTuple

from torch import Tensor

from reformer.ops.checks import require_at_least, require_choice, require_dropout
from reformer.ops.counter_rng import as_seed

PATTERNS = ("paper", "bucket", "trax")


class Reach(NamedTuple):
    """Who sees whom. ``lsh``, ``local`` and ``full`` make one and check it; nobody else does.

    pattern: "paper", "bucket" or "trax" of ``lsh_attention``; "position" for ``local_attention`` and ``full_attention``.
    exclude_self: as with shared QK, a token sees itself only when it sees nothing else.
    chunk_len: None without chunks; in "bucket" it is only the size of a tile of work (see ``chunks_within``).
    window: places to either side; with neither chunks nor a window a token sees all of its bucket or segment.
    wrap: the chunks of all rounds stand in a ring, and a pair counts as often as it is seen.

    Chunks are counted from the first place of the order, in "position" (unless ``wrap``) from that of each segment.
    """

    pattern: str
    causal: bool
    exclude_self: bool
    chunk_len: int | None
    n_chunks_before: int
    n_chunks_after: int
    window: int | None
    wrap: bool

    @classmethod
    def lsh(
        cls,
        *,
        chunk_len: int,
        pattern: str = "paper",
        causal: bool = True,
        window: int | None = None,
        n_chunks_before: int = 1,
        n_chunks_after: int = 0,
    ) -> "Reach":
        """The reach of ``lsh_attention``. Raises ValueError or TypeError for options that do not fit together."""
        require_choice("pattern", pattern, PATTERNS)
        require_at_least("chunk_len", chunk_len, 1)
        require_at_least("n_chunks_before", n_chunks_before, 0)
        require_at_least("n_chunks_after", n_chunks_after, 0)
        if pattern == "bucket":
            if window is not None:
                require_at_least("window", window, 1)
            if (n_chunks_before, n_chunks_after) != (1, 0):
                raise ValueError(
                    "pattern='bucket' has no chunk edges: leave n_chunks_before=1, n_chunks_after=0 and set window, "
                    f"got n_chunks_before={n_chunks_before}, n_chunks_after={n_chunks_after}"
                )
        elif window is not None:
            raise ValueError(f"window belongs to pattern='bucket', got window={window} with pattern={pattern!r}")
        return cls(pattern, causal, True, chunk_len, n_chunks_before, n_chunks_after, window, wrap=pattern == "trax")

    @classmethod
    def local(
        cls,
        *,
        shared_qk: bool,
        causal: bool = True,
        chunk_len: int | None = None,
        n_chunks_before: int = 1,
        n_chunks_after: int = 0,
        window: int | None = None,
        wrap: bool = False,
    ) -> "Reach":
        """The reach of ``local_attention``. Raises ValueError or TypeError for options that do not fit together."""
        if (chunk_len is None) == (window is None):
            raise ValueError(f"give exactly one of chunk_len and window, got chunk_len={chunk_len}, window={window}")
        if wrap and chunk_len is None:
            raise ValueError(f"wrap=True needs chunk_len, got window={window}")
        if chunk_len is not None:
            require_at_least("chunk_len", chunk_len, 1)
            require_at_least("n_chunks_before", n_chunks_before, 0)
            require_at_least("n_chunks_after", n_chunks_after, 0)
        if window is not None:
            require_at_least("window", window, 1)
        return cls("position", causal, shared_qk, chunk_len, n_chunks_before, n_chunks_after, window, wrap)

    @classmethod
    def full(cls, *, shared_qk: bool, causal: bool = True) -> "Reach":
        """The reach of ``full_attention``."""
        return cls("position", causal, shared_qk, None, 0, 0, None, False)

    def chunks_within(self, length: int) -> tuple[int, int, int] | None:
        """(chunk_len, chunks before, chunks after), cut to what ``length`` places hold; None where there are no edges."""
        if self.chunk_len is None or self.pattern == "bucket":
            return None
        # One chunk holds everything from ``length`` on, and no chunk is farther than the last; a ring goes on and on.
        chunk_len = min(self.chunk_len, length)
        farthest = max(self.n_chunks_before, self.n_chunks_after) if self.wrap else -(-length // chunk_len)
        return chunk_len, min(self.n_chunks_before, farthest), min(self.n_chunks_after, farthest)

    def window_within(self, length: int) -> int | None:
        """The window, cut to ``length`` places."""
        return None if self.window is None else min(self.window, length)

    @property
    def farthest(self) -> int | None:
        """Places from the newest token, itself included, beyond which nothing is ever seen again; None: no such end."""
        if self.pattern != "position":
            return None
        if self.chunk_len is not None:
            return (self.n_chunks_before + 1) * self.chunk_len
        return None if self.window is None else self.window + 1


class Dropout(NamedTuple):
    """Attention dropout: a pair is dropped with probability ``p``, a pure function of (seed, b, h, i, j)."""

    p: float
    seed: Tensor

    @classmethod
    def of(cls, p: float, seed: int | Tensor | None) -> "Dropout | None":
        """The dropout of a public call; None: nothing is dropped. Raises ValueError or TypeError unless both fit."""
        require_dropout(p, seed)
        return None if p == 0.0 or seed is None else cls(float(p), as_seed(seed))


class Request(NamedTuple):
    """One call of attention, checked: what an engine computes.

    q: [B, H, L, D]. k: the same, or None for shared QK. v: [B, H, L, Dv].
    buckets: [B, H, R, L]; None: one round of one bucket.
    order: the token at each place, [B, H, R, L] with buckets, else [B, 1, 1, L]; None: in the order of positions.
    segment_ids: [B, L], negative for padding; None: one segment.
    """

    q: Tensor
    k: Tensor | None
    v: Tensor
    buckets: Tensor | None
    order: Tensor | None
    segment_ids: Tensor | None
    reach: Reach
    scale: float
    dropout: Dropout | None
