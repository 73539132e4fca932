"""Measuring a model on held-out data: bits of its tokens, accuracy, BLEU, and yardsticks that need no model.

Import from the modules: ``reformer.evaluation.mean_bits.mean_bits``, ``reformer.evaluation.bleu.bleu``, ...
"""
