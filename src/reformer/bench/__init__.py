"""Benchmarks: rows of measurements, and the tables and plots made from them.

``attention``, ``model``, ``memory`` and ``decoding`` measure; each contender runs in a process of its own (``worker``), and
the processes take turns (``timing``).
``report`` writes tables and plots from the rows. Nothing is measured while ``correctness`` fails.
"""
