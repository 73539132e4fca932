"""The frozen description of a run that learns to translate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from reformer.models import EncoderDecoderConfig, ReformerConfig
from reformer.ops.checks import require_at_least
from reformer.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class TranslationConfig(TrainConfig):
    """A run of an encoder-decoder on pairs of sentences."""

    tasks: ClassVar[tuple[str, ...]] = ("translation",)

    task: str = "translation"
    data: str = "pairs"
    """A file with source and target in two columns, or a folder with files of each split: train.en and train.de, .."""
    source_lang: str = "en"
    """How the source's files are called, behind the last dot of their names."""
    target_lang: str = "de"
    seq_len: int = 128
    """Longest sentence in tokens, its end token among them; pairs with a longer one are left out of training."""
    batch_tokens: int = 4096
    """Padded tokens on each side of one forward and backward pass, at most (batch_size is not looked at)."""
    train_pairs: int | None = None
    """Only the first so many training pairs; None: all."""
    label_smoothing: float = 0.1
    model: EncoderDecoderConfig = field(default_factory=EncoderDecoderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("batch_tokens", self.batch_tokens, self.seq_len)
        if self.train_pairs is not None:
            require_at_least("train_pairs", self.train_pairs, 1)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.objective != "causal":
            raise ValueError(f"task {self.task!r} is causal: each target token is predicted from those before it")

    @property
    def tokens_per_step(self) -> int:
        """Padded target tokens of a step, at most."""
        return self.batch_tokens * self.accumulate


@dataclass(frozen=True, kw_only=True)
class PackedTranslationConfig(TranslationConfig):
    """A run of a language model on sequences of a source and its target; the target alone is predicted."""

    tasks: ClassVar[tuple[str, ...]] = ("packed-translation",)

    task: str = "packed-translation"
    model: ReformerConfig = field(default_factory=ReformerConfig)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model.require_length(2 * self.seq_len)


CONFIG_OF_TASK: dict[str, type[TrainConfig]] = {
    task: cls for cls in (TrainConfig, TranslationConfig, PackedTranslationConfig) for task in cls.tasks
}
