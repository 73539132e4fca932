"""Tiny models, and decoders whose probabilities are known."""

import torch

from reformer.models import ReformerConfig, ReformerLM

CONFIG = ReformerConfig(
    d_model=16,
    d_ff=16,
    n_heads=2,
    attention=("local", "lsh"),
    pattern="bucket",
    n_buckets=4,
    axial_shape=(4, 8),
    lsh_chunk_len=8,
    local_chunk_len=4,
    embedding_std=1.0,
)


def byte_model() -> ReformerLM:
    torch.manual_seed(0)
    return ReformerLM(CONFIG)


class MarkovState:
    """The last token of each row."""

    def __init__(self, rows: int) -> None:
        self.last = torch.zeros(rows, dtype=torch.int64)

    def reorder(self, rows) -> None:
        self.last = self.last[rows]


class MarkovChain:
    """Any decoder will do: the logits of the next token are a row of a table, that of the last real token."""

    def __init__(self, table) -> None:
        self.table = table

    def decode(self, tokens, state, segment_ids=None, *, last_only=False):
        logits = []
        for t in range(tokens.shape[1]):
            is_real = torch.ones_like(tokens[:, t]) if segment_ids is None else segment_ids[:, t] >= 0
            state.last = torch.where(is_real.bool(), tokens[:, t], state.last)
            logits.append(self.table[state.last])
        return torch.stack(logits[-1:] if last_only else logits, dim=1)
