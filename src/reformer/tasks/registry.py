"""The tasks and the recipes by name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from reformer.tasks import duplication, images, recall, text, translation
from reformer.tasks.config import OptimizerConfig, RunConfig
from reformer.tasks.earlier import current_config
from reformer.tasks.images import recipes as images_recipes
from reformer.tasks.text import recipes as text_recipes
from reformer.tasks.translation import recipes as translation_recipes

CONFIGS: dict[str, type[RunConfig]] = {
    config.task: config
    for config in (
        text.TextConfig,
        duplication.DuplicationConfig,
        recall.RecallConfig,
        images.ImagesConfig,
        translation.TranslationConfig,
        translation.PackedTranslationConfig,
    )
}
"""The config of each task, by the name that config.json has for it."""

RECIPES: dict[str, Callable[[], RunConfig]] = {
    **text_recipes.RECIPES,
    **duplication.RECIPES,
    **recall.RECIPES,
    **images_recipes.RECIPES,
    **translation_recipes.RECIPES,
}
"""Functions that return one complete frozen config each; the first line of their docstring says what it is."""


def recipe(name: str) -> RunConfig:
    """The config called ``name``. Raises ValueError listing the valid names."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown recipe {name!r}; {hint}valid recipes: {', '.join(RECIPES)}")
    return RECIPES[name]()


def config_from_dict(values: Mapping[str, Any]) -> RunConfig:
    """The config that ``RunConfig.as_dict`` gave, also by code of before (``earlier.py``).

    Raises ValueError for an unknown task and for unknown fields.
    """
    values = current_config(values)
    task = values.pop("task")
    if task not in CONFIGS:
        raise ValueError(f"unknown task {task!r}; tasks: {', '.join(CONFIGS)}; this run was written by another version")
    cls = CONFIGS[task]
    values["optimizer"] = _build(OptimizerConfig, values.get("optimizer", {}))
    values["model"] = _build(get_type_hints(cls)["model"], values.get("model", {}))
    config: RunConfig = _build(cls, values)
    return config


def _build(cls: type, values: Mapping[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; this run was written by another version")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
