"""``reformer env``: the machine's part of a run's card."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from reformer.cli.parsing import parse


@dataclass(frozen=True)
class EnvOptions:
    """Print code version, software versions and hardware as JSON, and which LSH attention runs here and why."""


def run(arguments: Sequence[str]) -> int:
    """Parse and print."""
    parse(EnvOptions, arguments, prog="reformer env")
    import torch

    from reformer.ops import choose_implementation
    from reformer.training.environment import code_version, environment

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    choices = {name: choose_implementation("auto", torch.device(name)) for name in devices}
    report = {
        "code": code_version(),
        **environment(),
        "lsh_attention": {name: f"{choice.name}: {choice.reason}" for name, choice in choices.items()},
    }
    print(json.dumps(report, indent=2, sort_keys=True))
    return 0
