"""A whole training step of one model, measured from inside its own process: ours, or transformers' of the same sizes."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from reformer.models import EncoderDecoderConfig, ReformerConfig, ReformerEncoderDecoder, ReformerLM
from reformer.training.environment import peak_memory_bytes, reset_peak_memory
from reformer.training.optim import build_optimizer
from reproduction.benchmarks.benchmark import DTYPES
from reproduction.benchmarks.peers import transformers_model
from reproduction.timing import seconds_of

MODELS = {
    "reformer": "ReformerLM, or the encoder-decoder: forward, loss, backward, optimizer",
    "transformers": "ReformerModelWithLMHead of the same sizes: forward, loss, backward, optimizer",
}
# Small enough that random tokens neither explode nor become denormal over a few steps.
LEARNING_RATE = 1e-4


class TrainingStep:
    """Model, optimizer and one batch of random tokens (``worker``).

    ``dtype``: "float32", or another one for autocast over float32 weights.
    """

    def __init__(
        self,
        contender: str,
        config: ReformerConfig,
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
        self._tokens = torch.randint(0, config.vocab_size, (batch, seq_len), dtype=torch.int64, device=device)
        reset_peak_memory(device)
        self._before = peak_memory_bytes(device)
        build = _reformer if contender == "reformer" else _transformers
        self.model, self._loss = build(config, seq_len, device)
        self._optimizer = build_optimizer(
            optimizer, self.model.named_parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0
        )
        self._last_loss: float | None = None

    def time(self) -> float:
        """Seconds of one step."""
        # A step is never short: one call is one step.
        return seconds_of(self._one_step, self._device, least_s=0.0)

    def report(self) -> dict[str, Any]:
        """The last loss, parameters, and bytes: peak of the process, held before the model, kept between steps."""
        parameters = list(self.model.parameters())
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
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        value = loss.item()
        # No row holds a value that is no number.
        self._last_loss = value if math.isfinite(value) else None


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
