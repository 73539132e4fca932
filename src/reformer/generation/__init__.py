"""Generation: sampling from a trained model."""

from reformer.generation.filters import SamplingConfig, next_token_probabilities
from reformer.generation.sampling import generate

__all__ = ["SamplingConfig", "generate", "next_token_probabilities"]
