"""Pairs of sentences to translate: read from files, prepared once on disk, drawn in batches of like length.

Import from the modules: ``reformer.data.pairs.preparing.load_pairs``, ...
"""
