"""LSH attention: the public function, its definition and its implementations."""

from reformer.ops.lsh_attention.api import PATTERNS, lsh_attention

__all__ = ["PATTERNS", "lsh_attention"]
