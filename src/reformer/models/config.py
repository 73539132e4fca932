"""The frozen description of a Reformer language model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reformer.layers.attention import split_width
from reformer.layers.reversible import require_streams
from reformer.ops.attention.reach import PATTERNS
from reformer.ops.checks import require_at_least, require_choice
from reformer.ops.chunking import ACTIVATIONS
from reformer.ops.hashing import bucket_factors

ATTENTION_KINDS = ("lsh", "local", "full")
POSITIONS = ("axial", "learned", "sinusoidal", "rotary", "rotary-local", "none")


@dataclass(frozen=True, kw_only=True)
class ReformerConfig:
    """A Reformer language model, complete: nothing about the function is decided elsewhere.

    Models that differ only in ``attention`` (with ``shared_qk``), ``n_hashes``, ``n_buckets``, ``pattern`` or
    ``reversible`` and ``streams`` have the same parameters under the same names.
    """

    vocab_size: int = 256
    """Tokens that are predicted; the inputs have two more, ``vocab_size`` (start) and ``vocab_size + 1`` (mask)."""
    d_model: int = 256
    """Width of each of the two streams."""
    d_ff: int = 1024
    n_heads: int = 4
    head_dim: int | None = None
    """Width of a head; n_heads × head_dim must be the attention width. None: that width over n_heads."""
    d_attn: int | None = None
    """Attention width, all heads together; None: d_model."""
    attention: tuple[str, ...] = ("local", "lsh", "local", "lsh")
    """The attention of each layer: "lsh", "local" or "full"."""
    causal: bool = True
    """False: bidirectional, for masked-token training."""
    shared_qk: bool = True
    """Of local and full layers: k = q/||q|| as in LSH layers (same parameters), or keys of their own."""
    n_hashes: int = 2
    n_buckets: int | tuple[int, ...] | None = None
    """Even, or even factors; None: the paper's 2·L/chunk_len at every length."""
    pattern: str = "paper"
    """Whom LSH layers see: "paper", "bucket" (strictly causal) or "trax" (the released checkpoints)."""
    lsh_chunk_len: int = 64
    lsh_window: int | None = None
    """Pattern "bucket": places seen within the bucket; None: all of it."""
    lsh_chunks_before: int = 1
    lsh_chunks_after: int | None = None
    """Chunks seen beside a token's own; None: 0 for causal models and pattern "bucket", else 1."""
    local_chunk_len: int = 64
    local_chunks_before: int = 1
    local_chunks_after: int | None = None
    """As ``lsh_chunks_after``."""
    local_wrap: bool = False
    """Only for converted bidirectional models: the first chunk of local layers follows the last, as in transformers."""
    attention_scale: float = 1.0
    """Scale of shared-QK logits (the authors': 1)."""
    activation: str = "relu"
    layer_norm_eps: float = 1e-5
    positions: str = "axial"
    """"rotary" rotates queries (and keys) of every layer; "rotary-local" those of local layers alone, so that LSH and full
    layers hash and compare what stands somewhere and not where; "axial", "learned" and "sinusoidal" are added to the input."""
    axial_shape: tuple[int, ...] = (64, 64)
    axial_dims: tuple[int, ...] | None = None
    """Widths of the axes, together d_model; None: split evenly."""
    max_len: int = 4096
    """Longest input of "learned" and "rotary" positions: beyond what it was trained for a model only guesses."""
    embedding_std: float = 0.02
    """Standard deviation of the token embeddings at the start; residual updates of order 1 soon bury small ones."""
    tie_embeddings: bool = False
    """The head reads the token embeddings E: logits E·(n1 + n2) + b, where [n1; n2] is what it is given."""
    dropout: float = 0.0
    attention_dropout: float = 0.0
    reversible: bool = True
    streams: int = 2
    """1: an ordinary Transformer of the same layers, to compare with; it needs ``reversible=False``."""
    ff_chunk_len: int | None = None
    """Positions per feed-forward slice; None: all at once."""
    loss_chunk_len: int | None = 4096
    """Positions per slice of logits and loss."""
    impl: str = "auto"

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "d_ff", "n_heads", "n_hashes", "lsh_chunk_len", "local_chunk_len"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("max_len", "ff_chunk_len", "loss_chunk_len", "lsh_window", "head_dim", "d_attn"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)
        for name in ("lsh_chunks_before", "lsh_chunks_after", "local_chunks_before", "local_chunks_after"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 0)
        split_width(self.d_model, self.n_heads, self.head_dim, self.d_attn)
        if not self.attention:
            raise ValueError("attention must name at least one layer, for example ('local', 'lsh')")
        for kind in self.attention:
            require_choice("attention", kind, ATTENTION_KINDS)
        require_choice("pattern", self.pattern, PATTERNS)
        require_choice("activation", self.activation, ACTIVATIONS)
        require_streams(self.streams, self.reversible)
        require_choice("positions", self.positions, POSITIONS)
        require_choice("impl", self.impl, ("auto", "eager", "reference"))
        if self.n_buckets is not None:
            bucket_factors(self.n_buckets)
        if self.lsh_window is not None and self.pattern != "bucket":
            raise ValueError(f"lsh_window belongs to pattern 'bucket', got pattern {self.pattern!r}")
        if self.pattern == "bucket" and (self.lsh_chunks_before, self.lsh_chunks_after or 0) != (1, 0):
            raise ValueError(
                "pattern 'bucket' has no chunk edges: leave lsh_chunks_before=1 and lsh_chunks_after out, and set "
                f"lsh_window; got {self.lsh_chunks_before} and {self.lsh_chunks_after}"
            )
        if self.local_wrap and self.causal:
            raise ValueError("local_wrap needs causal=False: around the ends stand later tokens, which nobody sees")
        for name in ("embedding_std", "layer_norm_eps"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.positions == "axial":
            self._check_axial()
        if self.rotary_kinds and split_width(self.d_model, self.n_heads, self.head_dim, self.d_attn)[0] % 2:
            raise ValueError("rotary positions need an even head_dim; change n_heads or head_dim")

    def _check_axial(self) -> None:
        dims = self.axis_widths
        if len(dims) != len(self.axial_shape) or min(*self.axial_shape, *dims) < 1:
            raise ValueError(
                f"axial_shape and axial_dims must be positive and as many, got {self.axial_shape} and {dims}"
            )
        if sum(dims) != self.d_model:
            raise ValueError(f"axial_dims must sum to d_model={self.d_model}, got {dims} = {sum(dims)}")

    @property
    def axis_widths(self) -> tuple[int, ...]:
        """Widths of the axial axes."""
        if self.axial_dims is not None:
            return self.axial_dims
        axes = len(self.axial_shape)
        return tuple(self.d_model // axes + (axis < self.d_model % axes) for axis in range(axes))

    @property
    def rotary_kinds(self) -> tuple[str, ...]:
        """The kinds of layers whose queries (and keys) are rotated."""
        return {"rotary": ATTENTION_KINDS, "rotary-local": ("local",)}.get(self.positions, ())

    @property
    def longest_input(self) -> int | None:
        """The longest input the positions allow; None: any."""
        if self.positions == "axial":
            return math.prod(self.axial_shape)
        return self.max_len if self.positions in ("learned", "rotary") else None

    @property
    def start_id(self) -> int:
        """Input-only token before the first one."""
        return self.vocab_size

    @property
    def mask_id(self) -> int:
        """Input-only token that hides another one in masked-token training."""
        return self.vocab_size + 1

    def require_length(self, length: int) -> None:
        """Raise ValueError if the positions do not reach ``length``."""
        longest = self.longest_input
        if longest is not None and length > longest:
            fix = (
                f"axial_shape with a product of at least {length}" if self.positions == "axial" else "a larger max_len"
            )
            where = f"axial_shape {self.axial_shape}" if self.positions == "axial" else "max_len"
            raise ValueError(f"length {length} is beyond the {longest} positions of {where}; shorten it, or use {fix}")
