"""Small configs of every task, alike where they can be."""

import dataclasses
from typing import Any, TypeVar

from tests.training.runs import TINY

from reformer.tasks.config import RunConfig

C = TypeVar("C", bound=RunConfig)


def like_tiny(cls: type[C], **values: Any) -> C:
    """A config with the values of ``TINY`` where it has the same fields."""
    names = {f.name for f in dataclasses.fields(cls)}
    common = {f.name: getattr(TINY, f.name) for f in dataclasses.fields(TINY) if f.name in names}
    return cls(**{**common, **values})
