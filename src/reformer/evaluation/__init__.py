"""Measuring a model on held-out data: bits of its tokens, accuracy, BLEU, and yardsticks that need no model."""

from reformer.evaluation.bleu import bleu, shuffled_source_bleu
from reformer.evaluation.mean_bits import (
    bits_by_position,
    evaluating,
    masked_mean_bits,
    mean_bits,
    scored_accuracy,
)
from reformer.evaluation.variants import attention_variant
from reformer.evaluation.yardsticks import compressor_bits_per_byte, order0_entropy, picture_bits_per_dim

__all__ = [
    "attention_variant",
    "bits_by_position",
    "bleu",
    "compressor_bits_per_byte",
    "evaluating",
    "masked_mean_bits",
    "mean_bits",
    "order0_entropy",
    "picture_bits_per_dim",
    "scored_accuracy",
    "shuffled_source_bleu",
]
