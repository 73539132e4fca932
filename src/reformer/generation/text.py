"""Texts of a ``ReformerLM``: prompts as bytes or token ids, continued by sampling or by beam search."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from reformer.generation.beam_search import Hypothesis, search_beams
from reformer.generation.filters import SamplingConfig
from reformer.generation.protocol import Stopping
from reformer.generation.sampling import sample_tokens
from reformer.models import DecodingState, ReformerLM

Prompt = bytes | Sequence[int]


def stream(
    model: ReformerLM,
    prompts: Sequence[Prompt],
    n_tokens: int,
    sampling: SamplingConfig,
    *,
    seeds: Sequence[int] | None = None,
    stop: Sequence[bytes] | Stopping = (),
    rotation_seed: int = 0,
    max_len: int | None = None,
) -> Iterator[list[int | None]]:
    """Yield the next token of each prompt, up to ``n_tokens`` times; None for a row that a stop string has ended.

    Args:
        prompts: bytes, or token ids; of different lengths, any of them empty.
        seeds: one per row (default 0, 1, ..). With it a row's tokens are the same, to rounding, whatever the other rows.
        stop: a row ends with the first of these strings in what it generated, which is the last that it yields.
        rotation_seed: fixes the hash rotations of all rows.
        max_len: the longest prompt and continuation to make room for; the automatic number of buckets is the one for
            it, so the length that the model was trained at is a good choice. Default: the model's longest input, or
            without one the next power of two.

    Raises ValueError, before the first token, if a prompt with its continuation exceeds the model's longest input, for
    token ids outside the vocabulary, and for a model that is not causal or, given bytes, not of bytes.
    """
    seeds = range(len(prompts)) if seeds is None else seeds
    if len(seeds) != len(prompts) or not prompts:
        raise ValueError(
            f"give at least one prompt and one seed for each, got {len(prompts)} prompts, {len(seeds)} seeds"
        )
    stopping = _stopping(model, stop)
    tokens, segment_ids, state = start_rows(model, prompts, n_tokens, rotation_seed, max_len)
    return sample_tokens(model, state, tokens, segment_ids, n_tokens, sampling, seeds=seeds, stopping=stopping)


def generate(
    model: ReformerLM, prompts: Sequence[Prompt], n_tokens: int, sampling: SamplingConfig, **options: Any
) -> list[list[int]]:
    """The continuations that ``stream`` yields, one list for each prompt; options as there."""
    steps = list(stream(model, prompts, n_tokens, sampling, **options))
    return [[token for token in row if token is not None] for row in zip(*steps)] if steps else [[] for _ in prompts]


def beam_search(
    model: ReformerLM,
    prompt: Prompt,
    n_tokens: int,
    *,
    num_beams: int,
    alpha: float = 0.0,
    stop: Sequence[bytes] | Stopping = (),
    rotation_seed: int = 0,
    max_len: int | None = None,
) -> list[Hypothesis]:
    """The ``num_beams`` likeliest continuations, best first; ``alpha``: the length penalty's exponent (``Hypothesis``).

    Arguments and errors otherwise as in ``stream``.
    """
    stopping = _stopping(model, stop)
    tokens, _, state = start_rows(model, [prompt], n_tokens, rotation_seed, max_len)
    return search_beams(model, state, tokens, [n_tokens], num_beams=num_beams, alpha=alpha, stopping=stopping)[0]


def start_rows(
    model: ReformerLM, prompts: Sequence[Prompt], n_tokens: int, rotation_seed: int, max_len: int | None
) -> tuple[Tensor, Tensor | None, DecodingState]:
    """Left-padded tokens [B, T], their segment ids (None: no padding), and an empty state."""
    config = model.config
    if not config.causal:
        raise ValueError("only a causal model can continue a text; this one was trained on hidden bytes (causal=False)")
    for prompt in prompts:
        _check_prompt(model, prompt, n_tokens)
    longest = max(map(len, prompts))
    if max_len is None and config.longest_input is None:
        max_len = 1 << max(longest + n_tokens - 1, 0).bit_length()
    if max_len is not None and longest + n_tokens > max_len:
        raise ValueError(f"prompt of {longest} and {n_tokens} new ones exceed max_len={max_len}; give a larger one")
    state = model.decoding_state(len(prompts), max_len, rotation_seed)
    tokens, segment_ids = pad([[config.start_id, *prompt] for prompt in prompts], model.norm.weight.device, "left")
    return tokens, segment_ids, state


def pad(rows: Sequence[Sequence[int]], device: torch.device, side: str = "right") -> tuple[Tensor, Tensor | None]:
    """Rows as one tensor [B, T], padded on that side, and its segment ids (None: no padding)."""

    def joined(tensors: list[Tensor], fill: int) -> Tensor:
        return pad_sequence(tensors, batch_first=True, padding_value=fill, padding_side=side).to(device)

    tokens = [torch.tensor(row, dtype=torch.int64, device="cpu") for row in rows]
    segment_ids = joined([torch.zeros_like(row) for row in tokens], -1)
    return joined(tokens, 0), segment_ids if bool((segment_ids < 0).any()) else None


def _check_prompt(model: ReformerLM, prompt: Prompt, n_tokens: int) -> None:
    V, longest = model.config.vocab_size, model.config.longest_input
    unit = "bytes" if isinstance(prompt, bytes) else "tokens"
    if unit == "bytes" and V != 256:
        raise ValueError(f"this model is over {V} symbols, not bytes; it has no text to continue")
    if unit == "tokens" and any(not 0 <= token < V for token in prompt):
        raise ValueError(f"token ids must be in [0, {V}), got {min(prompt)} to {max(prompt)}")
    if longest is not None and len(prompt) + n_tokens > longest:
        raise ValueError(
            f"prompt of {len(prompt)} {unit} and {n_tokens} new ones exceed the model's longest input, {longest}; "
            + (f"ask for at most {longest - len(prompt)} new {unit}" if len(prompt) < longest else "shorten the prompt")
        )


def _stopping(model: ReformerLM, stop: Sequence[bytes] | Stopping) -> Stopping:
    if isinstance(stop, Stopping):
        return stop
    if stop and model.config.vocab_size != 256:
        raise ValueError(
            f"this model is over {model.config.vocab_size} symbols: give stop=Stopping(strings, to_bytes) with what each "
            "token stands for"
        )
    return Stopping(tuple(stop))
