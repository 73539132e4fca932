"""Reformer in PyTorch: LSH attention, reversible layers, chunked feed-forward.

Importing this package imports nothing heavy; take what you need from the rooms:
``reformer.ops``, ``reformer.layers``, ``reformer.models``, ``reformer.data``, ``reformer.training``.
"""

__version__ = "0.1.0"
