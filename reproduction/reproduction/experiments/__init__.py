"""Experiments: one module per table or figure of the paper, and those beyond it. ``reformer reproduce --list`` names them."""
