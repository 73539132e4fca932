"""``reformer env``: the machine's part of a run's card."""

import json
from collections.abc import Sequence

from reformer.cli.parsing import UsageError


def run(arguments: Sequence[str]) -> int:
    """Print versions and hardware as JSON, and which LSH attention runs here."""
    from reformer.ops import choose_implementation
    from reformer.training.environment import code_version, environment

    if arguments and arguments[0] in ("-h", "--help"):
        print("usage: reformer env\n\nPrints code version, software versions and hardware as JSON.")
        return 0
    if arguments:
        raise UsageError(f"reformer env takes no arguments, got {' '.join(arguments)}")
    import torch

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    choices = {name: choose_implementation("auto", torch.device(name)) for name in devices}
    report = {
        "code": code_version(),
        **environment(),
        "lsh_attention": {name: f"{choice.name}: {choice.reason}" for name, choice in choices.items()},
    }
    print(json.dumps(report, indent=2, sort_keys=True))
    return 0
