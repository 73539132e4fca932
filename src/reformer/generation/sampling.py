"""Sampling: token after token of a batch of rows, each with random numbers of its own."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from reformer.generation.filters import SamplingConfig, next_token_probabilities, penalise_repetition
from reformer.generation.protocol import Decoder, State, Stopping


def sample_tokens(
    decoder: Decoder,
    state: State,
    tokens: Tensor,
    segment_ids: Tensor | None,
    n_tokens: int,
    sampling: SamplingConfig,
    *,
    seeds: Sequence[int],
    stopping: Stopping,
) -> Iterator[list[int | None]]:
    """Yield, up to ``n_tokens`` times, the next token of each row; None for a row that is over.

    ``tokens`` [B, T] is the prompt, which ``state`` does not hold yet; ``segment_ids`` [B, T], negative for padding. A row's
    draws depend on its own seed and logits only.
    """
    B = tokens.shape[0]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    tails, over = [b""] * B, [False] * B
    seen: Tensor | None = None
    for step in range(n_tokens):
        with torch.no_grad():
            logits = decoder.decode(tokens, state, segment_ids, last_only=True)[:, -1].float()
            if sampling.repetition_penalty != 1.0:
                seen = _seen(seen, tokens, segment_ids, logits)
                logits = penalise_repetition(logits, seen, sampling.repetition_penalty)
            probabilities = next_token_probabilities(logits, sampling).cpu()
        drawn: list[int | None] = [None] * B
        for row in range(B):
            if not over[row]:
                token = int(torch.multinomial(probabilities[row], 1, generator=generators[row]))
                tails[row], over[row] = stopping.follow(tails[row], token)
                drawn[row] = token
        yield drawn
        if all(over) or step == n_tokens - 1:
            return
        tokens = torch.tensor([[token or 0] for token in drawn], device=tokens.device)
        # A row that is over goes on as padding, so that the others need not be copied.
        segment_ids = torch.tensor([[-1 if o else 0] for o in over], device=tokens.device) if any(over) else None


def _seen(seen: Tensor | None, tokens: Tensor, segment_ids: Tensor | None, logits: Tensor) -> Tensor:
    """Which tokens of the vocabulary [B, V] each row holds; inputs beyond the vocabulary (a start token) are none."""
    V = logits.shape[-1]
    if seen is None:
        seen = torch.zeros_like(logits, dtype=torch.bool)
    counted = tokens < V if segment_ids is None else (tokens < V) & (segment_ids >= 0)
    times = torch.zeros_like(seen, dtype=torch.int32).scatter_add_(1, tokens.clamp(max=V - 1), counted.int())
    return seen | (times > 0)
