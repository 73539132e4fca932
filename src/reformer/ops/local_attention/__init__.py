"""Local attention: the public function, its definition and its implementation."""

from reformer.ops.local_attention.api import local_attention

__all__ = ["local_attention"]
