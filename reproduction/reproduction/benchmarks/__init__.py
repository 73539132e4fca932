"""Benchmarks: ``attention``, ``steps`` (model and memory) and ``decoding`` yield groups of cases, which ``measure`` measures.

Nothing is measured while ``correctness`` fails.
"""
