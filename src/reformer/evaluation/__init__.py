"""Evaluation: bits per byte with its protocol, accuracy of the duplication task, yardsticks."""

from reformer.evaluation.bits_per_byte import (
    bits_by_position,
    bits_per_byte,
    evaluating,
    masked_bits_per_byte,
    scored_accuracy,
)
from reformer.evaluation.bleu import bleu, shuffled_source_bleu
from reformer.evaluation.picture_yardsticks import order0_entropy, picture_bits_per_dim
from reformer.evaluation.variants import attention_variant
from reformer.evaluation.yardsticks import compressor_bits_per_byte

__all__ = [
    "attention_variant",
    "bits_by_position",
    "bits_per_byte",
    "bleu",
    "compressor_bits_per_byte",
    "evaluating",
    "masked_bits_per_byte",
    "order0_entropy",
    "picture_bits_per_dim",
    "scored_accuracy",
    "shuffled_source_bleu",
]
