"""The frozen description of a Reformer encoder-decoder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reformer.models.config import ATTENTION_KINDS, ReformerConfig
from reformer.ops.checks import require_at_least, require_choice


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(ReformerConfig):
    """An encoder-decoder, complete: a ``ReformerConfig`` of its decoder, and of all that both sides have in common.

    ``attention`` names the decoder's self-attention, which is causal; ``vocab_size`` and ``tie_embeddings`` are the
    target's. Cross-attention is full, with ``n_heads`` heads and keys of its own.
    """

    attention: tuple[str, ...] = ("full", "full")
    encoder_attention: tuple[str, ...] = ("full", "full")
    """The bidirectional attention of each encoder layer: "lsh", "local" or "full"."""
    source_vocab_size: int | None = None
    """Tokens of the source; None: those of the target, with the same embeddings."""
    tie_embeddings: bool = False
    """The head reads the target's embeddings, which are then multiplied by √d_model where they are inputs (Vaswani et al.
    2017, section 3.4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.causal:
            raise ValueError("causal is about the decoder, which must be causal, got causal=False; leave it out")
        if not self.encoder_attention:
            raise ValueError("encoder_attention must name at least one layer, for example ('full', 'full')")
        for kind in self.encoder_attention:
            require_choice("encoder_attention", kind, ATTENTION_KINDS)
        if self.source_vocab_size is not None:
            require_at_least("source_vocab_size", self.source_vocab_size, 1)

    @property
    def encoder(self) -> ReformerConfig:
        """The encoder's layers as a config of their own."""
        common = {f.name: getattr(self, f.name) for f in dataclasses.fields(ReformerConfig)}
        return ReformerConfig(**{**common, "attention": self.encoder_attention, "causal": False})
