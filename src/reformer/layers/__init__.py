"""One nn.Module per idea of the paper."""

from reformer.layers.attention import FullSelfAttention, LocalSelfAttention, LSHSelfAttention, SelfAttention
from reformer.layers.cross_attention import CrossAttention
from reformer.layers.feed_forward import FeedForward
from reformer.layers.passes import DecodingStep, MemoryCache, NewTokens, ParallelPass
from reformer.layers.positions import AxialPositions, rotate, sinusoidal_positions
from reformer.layers.reversible import ResidualBranch, ReversibleLayer, ReversibleStack

__all__ = [
    "AxialPositions",
    "CrossAttention",
    "DecodingStep",
    "FeedForward",
    "FullSelfAttention",
    "LSHSelfAttention",
    "LocalSelfAttention",
    "MemoryCache",
    "NewTokens",
    "ParallelPass",
    "ResidualBranch",
    "ReversibleLayer",
    "ReversibleStack",
    "SelfAttention",
    "rotate",
    "sinusoidal_positions",
]
