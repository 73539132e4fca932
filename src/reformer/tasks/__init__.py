"""Tasks: what a run learns, each a room with its config, data, loss, evaluation in its own unit, and recipes.

``protocol.py`` says what a task must give, ``config.py`` what every run's config holds, ``registry.py`` names tasks and
recipes. A new task is one package or module here and its lines in the registry. Tasks know nothing of each other.
"""
