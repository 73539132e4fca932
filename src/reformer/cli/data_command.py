"""``reformer data NAME``: prepare a corpus ahead of training."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from reformer.cli.parsing import UsageError, parse
from reformer.cli.runs import progress, say


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Prepare a corpus as memory maps: enwik8 (official download, resumable, checked), stdlib, or your own bytes."""

    source: Positional[str]
    """enwik8, stdlib, a path, or - for standard input."""
    file: Path | None = None
    """enwik8 from this file (raw, .zip, .xz, .gz, .bz2 or .zst) instead of the official download."""
    image_size: int | None = None
    """The source is pictures (a folder, an archive, the downsampled ImageNet's files), made so many pixels high and wide."""
    cache_dir: Path = Path("~/.cache/reformer")
    """Where prepared corpora are kept."""


def run(arguments: Sequence[str]) -> int:
    """Parse, prepare, and print the corpus's card."""
    options = parse(DataOptions, arguments, prog="reformer data")
    if options.image_size is not None and options.image_size < 1:
        raise UsageError(f"--image-size must be at least 1, got {options.image_size}")
    from reformer.data import load_corpus, prepare_enwik8
    from reformer.data.images import load_images

    cache_dir = options.cache_dir.expanduser()
    if options.image_size is not None:
        corpus = load_images(options.source, cache_dir, options.image_size, say)
    elif options.source == "enwik8":
        corpus = prepare_enwik8(cache_dir, options.file, progress=None if options.file else progress("bytes"))
    elif options.file is not None:
        raise UsageError("--file goes with enwik8; for your own file: reformer data PATH")
    else:
        corpus = load_corpus(options.source, cache_dir)
    print(f"{corpus.name}: {corpus.directory}")
    for name, split in corpus.card["splits"].items():
        print(f"  {name:<11}{split['bytes']:>14,} bytes  sha256 {split['sha256']}")
    print(f"next: {shlex.join(_training_command(options))}")
    return 0


def _training_command(options: DataOptions) -> list[str]:
    size = options.image_size
    command = ["reformer", "train", "quickstart" if size is None else "images-small", "--data", options.source]
    if size is not None:
        command += ["--seq-len", str(3 * size * size)]
    if options.cache_dir != DataOptions.cache_dir:
        command += ["--cache-dir", str(options.cache_dir)]
    return command
