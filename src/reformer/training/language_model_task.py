"""What the tasks of a language model of bytes or symbols have in common."""

from torch import Tensor

from reformer.models import ReformerLM


class LanguageModelTask:
    """Batches are (inputs, targets) int64 [B, L]; -100 in targets is not counted."""

    bytes_per_token = 1.0

    def loss(self, model: ReformerLM, batch: tuple[Tensor, ...], seed: Tensor) -> Tensor:
        """The mean loss in nats of the tokens counted."""
        inputs, targets = batch
        return model(inputs, targets=targets, seed=seed)
