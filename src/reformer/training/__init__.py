"""Training: the loop, and what a run leaves behind. Knows the protocol of tasks and none of them by name.

Import from the modules: ``reformer.training.loop.train``, ``reformer.training.run_directory.load_trained``, ...
"""
