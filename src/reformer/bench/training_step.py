"""A whole training step of one model, measured from inside its own process: ours, or transformers' of the same sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from reformer.bench.contenders import DTYPES
from reformer.bench.timing import seconds_of
from reformer.models import EncoderDecoderConfig, ReformerConfig, ReformerEncoderDecoder, ReformerLM
from reformer.training.environment import peak_memory_bytes, reset_peak_memory
from reformer.training.optim import build_optimizer

MODELS = {
    "reformer": "ReformerLM, or the encoder-decoder: forward, loss, backward, optimizer",
    "transformers": "ReformerModelWithLMHead of the same sizes: forward, loss, backward, optimizer",
}
# Small enough that random tokens neither explode nor become denormal over a few steps.
_LEARNING_RATE = 1e-4


class TrainingStep:
    """Model, optimizer and one batch of random tokens. JSON in, JSON out (``worker``).

    ``dtype``: "float32", or another one for autocast over float32 weights.
    """

    def __init__(
        self,
        contender: str,
        config: dict[str, Any],
        *,
        batch: int,
        seq_len: int,
        dtype: str,
        optimizer: str,
        device: str,
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self._device, self._dtype, self._step = device, DTYPES[dtype], 0
        shape = config_from_json(config)
        self._tokens = torch.randint(0, shape.vocab_size, (batch, seq_len), device=device)
        reset_peak_memory(device)
        self._before = peak_memory_bytes(device)
        build = _reformer if contender == "reformer" else _transformers
        self._model, self._loss = build(shape, seq_len, device)
        self._optimizer = build_optimizer(
            optimizer, self._model.named_parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0
        )
        self._last_loss = math.nan

    def time(self) -> float:
        """Seconds of one step."""
        # A step is never short: one call is one step.
        return seconds_of(self._one_step, self._device, least_s=0.0)

    def report(self) -> dict[str, Any]:
        """The last loss, parameters, and bytes: peak of the process, held before the model, kept between steps."""
        parameters = list(self._model.parameters())
        states = [t for state in self._optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
        gradients = [p.grad for p in parameters if p.grad is not None]
        kept = sum(t.numel() * t.element_size() for t in (*parameters, *gradients, *states))
        peak = peak_memory_bytes(self._device)
        return {
            "loss": self._last_loss,
            "parameters": sum(p.numel() for p in parameters),
            "peak_bytes": peak,
            "before_bytes": self._before,
            "kept_bytes": kept,
            "activation_bytes": peak - self._before - kept,
        }

    def _one_step(self) -> None:
        self._step += 1
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._device, dtype=self._dtype, enabled=self._dtype != torch.float32):
            loss = self._loss(self._tokens, self._step)
        loss.backward()
        self._optimizer.step()
        self._last_loss = loss.item()


def _reformer(config: ReformerConfig, seq_len: int, device: str) -> tuple[nn.Module, Callable[[Tensor, int], Tensor]]:
    if isinstance(config, EncoderDecoderConfig):
        translator = ReformerEncoderDecoder(config).to(device)
        # The same ids are source and target: what is measured does not depend on them.
        return translator, lambda tokens, step: translator(
            tokens, translator.shift_right(tokens), targets=tokens, seed=step
        )
    model = ReformerLM(config).to(device)
    return model, lambda tokens, step: model(model.shift_right(tokens), targets=tokens, seed=step)


def _transformers(
    config: ReformerConfig, seq_len: int, device: str
) -> tuple[nn.Module, Callable[[Tensor, int], Tensor]]:
    model = transformers_model(config, seq_len, device)
    return model, lambda tokens, step: model(input_ids=tokens, labels=tokens).loss


def transformers_model(config: ReformerConfig, seq_len: int, device: str) -> Any:
    """Their model of the same sizes, in training mode."""
    from transformers import ReformerConfig as TheirConfig
    from transformers import ReformerModelWithLMHead
    from transformers.utils import logging

    # It warns that its own config names no loss.
    logging.set_verbosity_error()
    n_buckets = config.n_buckets
    model: Any = ReformerModelWithLMHead(
        TheirConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            feed_forward_size=config.d_ff,
            num_attention_heads=config.n_heads,
            attention_head_size=config.head_dim or (config.d_attn or config.d_model) // config.n_heads,
            attn_layers=list(config.attention),
            num_hashes=config.n_hashes,
            num_buckets=list(n_buckets) if isinstance(n_buckets, tuple) else n_buckets,
            lsh_attn_chunk_length=config.lsh_chunk_len,
            local_attn_chunk_length=config.local_chunk_len,
            axial_pos_shape=list(config.axial_shape),
            axial_pos_embds_dim=list(config.axis_widths),
            max_position_embeddings=seq_len,
            hidden_act=config.activation,
            chunk_size_feed_forward=config.ff_chunk_len or 0,
            chunk_size_lm_head=0,
            is_decoder=True,
            use_cache=False,
            hidden_dropout_prob=config.dropout,
            lsh_attention_probs_dropout_prob=0.0,
            local_attention_probs_dropout_prob=0.0,
        )
    )
    return model.to(device).train()


def config_from_json(config: dict[str, Any]) -> ReformerConfig:
    """The config whose fields these are, tuples having become lists."""
    fields: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in config.items()}
    return (EncoderDecoderConfig if "encoder_attention" in fields else ReformerConfig)(**fields)
