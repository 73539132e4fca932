"""Layers with other libraries' call signatures, computed by our ops; docs/drop-in.md lists what each option does."""

from reformer.compat.lsh_self_attention import LSHSelfAttention

__all__ = ["LSHSelfAttention"]
