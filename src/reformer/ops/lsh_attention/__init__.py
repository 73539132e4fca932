"""LSH attention: the public function, its definition and its implementations."""

from reformer.ops.lsh_attention.api import PATTERNS, choose_implementation, lsh_attention

__all__ = ["PATTERNS", "choose_implementation", "lsh_attention"]
