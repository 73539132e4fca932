"""Sampling from a causal model, one token at a time, the whole prefix computed again for each."""

from collections.abc import Iterator

import torch

from reformer.generation.filters import SamplingConfig, next_token_probabilities
from reformer.models import ReformerLM


def generate(
    model: ReformerLM, prompt: bytes, n_tokens: int, sampling: SamplingConfig, *, seed: int = 0
) -> Iterator[int]:
    """Yield ``n_tokens`` byte values that continue ``prompt`` (which may be empty).

    The same seed gives the same bytes: it fixes the draws and, for the whole generation, the hash rotations.
    Raises ValueError, before the first token, if prompt and continuation exceed the model's longest input, or if the
    model is not a causal model of bytes.
    """
    if not model.config.causal:
        raise ValueError("only a causal model can continue a text; this one was trained on hidden bytes (causal=False)")
    if model.config.vocab_size != 256:
        raise ValueError(f"this model is over {model.config.vocab_size} symbols, not bytes; it has no text to continue")
    longest = model.config.longest_input
    if longest is not None and len(prompt) + n_tokens > longest:
        raise ValueError(
            f"prompt of {len(prompt)} bytes and {n_tokens} new ones exceed the model's longest input, {longest}; "
            + (f"ask for at most {longest - len(prompt)} new bytes" if len(prompt) < longest else "shorten the prompt")
        )
    return _tokens(model, prompt, n_tokens, sampling, seed)


def _tokens(model: ReformerLM, prompt: bytes, n_tokens: int, sampling: SamplingConfig, seed: int) -> Iterator[int]:
    device = model.head.weight.device
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    tokens = [model.config.start_id, *prompt]
    for _ in range(n_tokens):
        with torch.inference_mode():
            hidden = model.hidden(torch.tensor([tokens], device=device), seed=seed)
            probabilities = next_token_probabilities(model.head(hidden[0, -1]), sampling)
        token = int(torch.multinomial(probabilities.cpu(), 1, generator=generator))
        tokens.append(token)
        yield token
