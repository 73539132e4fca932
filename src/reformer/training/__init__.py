"""Training: frozen configs, recipes, the loop, and what a run leaves behind.

Import from the modules: ``reformer.training.loop.train``, ``reformer.training.recipes.recipe``, ...
"""
