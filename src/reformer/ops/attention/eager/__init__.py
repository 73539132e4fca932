"""Attention over tiles of a sorted order in plain PyTorch: O(L·R·chunk), any device, every pattern.

attention.py  the engine: forward and backward
plan.py       who sees whom as intervals of places in an order
tile.py       slabs of tiles: which pairs they hold, which of them are visible, which dropout keeps
forward.py    softmax within a tile, tiles and rounds merged
backward.py   gradients by recomputation
"""
