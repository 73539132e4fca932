"""``reformer convert FROM TO``: another Reformer's checkpoint as a folder that ``reformer.hf`` and transformers read."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from reformer.cli.parsing import UsageError, parse

if TYPE_CHECKING:
    from reformer.conversion import Converted


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Convert a released or trained Reformer to ours."""

    source: Positional[Path]
    """A transformers Reformer folder, or a trax model.pkl (also gzipped)."""
    target: Positional[Path]
    """The folder to write; it must be new or empty."""
    config: Path | None = None
    """A trax pickle holds weights alone: the config.json of the same model in transformers' format."""


def run(arguments: Sequence[str]) -> int:
    """Parse, read, write."""
    options = parse(ConvertOptions, arguments, prog="reformer convert")
    source, target = options.source.expanduser(), options.target.expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not empty; choose another folder, or remove it first")
    converted = read(source, options.config)
    write(converted, target)
    config = converted.config
    parameters = sum(tensor.numel() for tensor in converted.weights.values())
    print(f"{source}: {len(config.attention)} layers, {parameters:,} parameters, text as {converted.text.kind}")
    print(f"written to {target}; try: reformer generate --hf {target} --prompt ...")
    return 0


def read(source: Path, config: Path | None) -> "Converted":
    """The model in a folder or a pickle. Raises UsageError or ConversionError, in one line."""
    from reformer.conversion import read_transformers_folder, read_trax_pickle

    if source.is_dir():
        if config is not None:
            raise UsageError(f"--config is for trax pickles; {source} is a folder with a config.json of its own")
        return read_transformers_folder(source)
    if not source.exists():
        raise UsageError(f"{source} does not exist; give a folder, or a trax model.pkl with --config")
    if config is None:
        raise UsageError(f"{source} holds weights alone; give its config with --config .../config.json")
    return read_trax_pickle(source, config.expanduser())


def write(converted: "Converted", target: Path) -> None:
    """Write ``target`` whole or not at all: beside it first, then renamed; what a killed run left there goes."""
    from reformer.hf import folders

    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        folders.save_converted(converted, partial)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
