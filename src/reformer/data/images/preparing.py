"""From pictures as the user has them to a corpus of rasters, each picture as many bytes as every other."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reformer.data.corpus import Corpus, is_prepared, open_corpus
from reformer.data.errors import DataError
from reformer.data.files import find_source, folder_members, path_key
from reformer.data.images.decoding import HOW, UnreadablePicture
from reformer.data.images.reading import SUFFIXES, holds_pictures, names, pictures
from reformer.data.images.splits import SplitRule, choose_rule, digest_of
from reformer.data.preparing import SplitWriter, prepare, split_writers, splits_part
from reformer.data.synthetic import N_SHAPES, SHAPES_RULE, shape_picture

# Changes with the pixels that the same files give.
_FORMAT = 2
_NAMED = 5
Files = list[tuple[str, Path]]
Notice = Callable[[str], None]


def load_images(source: str, cache_dir: Path, size: int, notice: Notice = lambda line: None) -> Corpus:
    """The corpus of the pictures that ``source`` names: rasters of size * size * 3 bytes, one after another.

    A raster is rows from the top, in a row columns from the left, in a column red, green, blue. ``source`` is the path
    of a folder with pictures, archives (zip, tar) of them or the npz batches of the downsampled ImageNet, of one such
    archive, or of a corpus prepared before. Prepared below ``cache_dir`` once, re-used while the files are unchanged;
    `open_images` gives a split as an array. Pictures that cannot be read are left out, which ``notice`` is told in one
    line. ``source`` may also be the name of such a folder or archive below ``cache_dir/images``, or "shapes", which need
    no data. Raises DataError, one line, for whatever cannot be read, decoded, split or written, and if no picture is left.
    """
    cache_dir = Path(cache_dir)
    if source == "shapes":
        return prepare(
            cache_dir, f"shapes-{size}x{size}", str(_FORMAT), source, lambda working: _draw_shapes(working, size)
        )
    path = find_source(source, cache_dir / "images", ("", ".zip", ".tar"))
    if is_prepared(path):
        return check_images(open_corpus(path), size)
    files = _files(path, source, cache_dir)

    def key() -> str:
        here = path_key(path, cache_dir)
        return hashlib.sha256(f"pictures {_FORMAT} {size} {here}".encode()).hexdigest()[:16]

    name = f"{path.resolve().name.split('.')[0]}-{size}x{size}"
    corpus = prepare(cache_dir, name, key, source, lambda working: _fill(working, files, size, source))
    if corpus.card["skipped"]["pictures"]:
        notice(corpus.card["skipped"]["line"])
    return corpus


def open_images(corpus: Corpus, split: str) -> np.ndarray:
    """uint8 [n, size, size, 3], the pictures of a split, mapped read-only. Raises DataError if it holds no pictures."""
    return corpus.split(split).reshape(-1, *_shape(corpus))


def check_images(corpus: Corpus, size: int) -> Corpus:
    """``corpus``. Raises DataError unless it holds pictures of that size."""
    height, width, _ = _shape(corpus)
    if (height, width) != (size, size):
        raise DataError(
            f"{corpus.directory} holds pictures of {height} x {width}, {size} x {size} are needed; prepare them from "
            "the pictures themselves"
        )
    return corpus


def read_images(source: str, size: int, limit: int) -> list[np.ndarray]:
    """The first ``limit`` pictures, uint8 [size, size, 3], of a picture, folder or archive, outside of any corpus.

    Raises DataError as `load_images`, and for a picture that cannot be read.
    """
    path = Path(source).expanduser()
    found = []
    for name, read in itertools.islice(pictures(_files(path, source)), limit):
        try:
            found.append(read(size))
        except UnreadablePicture as error:
            raise DataError(f"cannot read {name}: {error}") from error
    if not found:
        raise DataError(_no_pictures(source))
    return found


def _shape(corpus: Corpus) -> tuple[int, int, int]:
    if "picture" not in corpus.card:
        raise DataError(f"{corpus.directory} is a corpus of bytes, not of pictures; give the path of pictures")
    height, width, channels = corpus.card["picture"]
    return height, width, channels


def _files(path: Path, source: str, cache_dir: Path | None = None) -> Files:
    """What to look into, by name; raises DataError if there is nothing."""
    if os.path.isdir(path):
        found = [(m.relative, m.path) for m in folder_members(path, cache_dir) if holds_pictures(m.path)]
    elif os.path.isfile(path):
        found = [(path.name, path)] if holds_pictures(path) else []
    elif source == "imagenet64":
        raise DataError(
            "imagenet64 has no download without an account at image-net.org: give the folder with train_data_batch_*.npz "
            "and val_data.npz, or with train_64x64 and valid_64x64 (.zip or .tar)"
            + ("" if cache_dir is None else f", or keep it as {cache_dir / 'images' / source}")
        )
    else:
        kept = f", here or called {source}, {source}.zip or {source}.tar in {cache_dir / 'images'}" if cache_dir else ""
        raise DataError(f"no file or folder {source}; expected pictures: a folder, a zip or tar archive of them{kept}")
    if not found:
        raise DataError(_no_pictures(source))
    return found


def _no_pictures(source: str) -> str:
    kinds = ", ".join(SUFFIXES)
    return f"{source} holds no pictures: expected files named {kinds}, a zip or tar archive of them, or npz batches, unpacked"


class _Skipped:
    """Pictures that cannot be read: how many, and the names of the first ones."""

    def __init__(self) -> None:
        self.count = 0
        self._named: list[str] = []

    def add(self, name: str, error: UnreadablePicture) -> None:
        self.count += 1
        if self.count <= _NAMED:
            # A name may hold line breaks, and bytes that are no text.
            shown = " ".join(os.fsencode(name).decode("utf-8", "replace").split())
            self._named.append(f"{shown} ({error})")

    def line(self, n_read: int) -> str:
        more = "" if self.count <= _NAMED else f" and {self.count - _NAMED} more"
        of = f"{self.count} of {self.count + n_read} pictures"
        return f"{of} cannot be read and are left out: {', '.join(self._named)}{more}" if self.count else "none"


def _fill(working: Path, files: Files, size: int, source: str) -> dict[str, Any]:
    rule = choose_rule(names(files))
    card = _write(working, files, size, rule)
    if not any(card["pictures"].values()):
        raise DataError(card["skipped"]["line"] if card["skipped"]["pictures"] else _no_pictures(source))
    if not all(card["pictures"].values()):
        card = _write(working, files, size, rule.for_few(_digests_to_split(files, size, rule)))
    if empty := [split for split, count in card["pictures"].items() if not count]:
        raise DataError(f"{source}: no picture of {', '.join(empty)} can be read; {card['skipped']['line']}")
    return card


def _write(working: Path, files: Files, size: int, rule: SplitRule) -> dict[str, Any]:
    skipped = _Skipped()
    with split_writers(working, "pictures") as writers:
        for name, raster in _rasters(files, size, skipped):
            split = rule.split_of(name, digest_of(raster))
            writers[split].write(raster.tobytes())
            writers[split].facts["pictures"] += 1
    return _card(size, writers, rule.text, HOW, skipped)


def _draw_shapes(working: Path, size: int) -> dict[str, Any]:
    index = itertools.count()
    with split_writers(working, "pictures") as writers:
        for split, count in N_SHAPES.items():
            for _ in range(count):
                writers[split].write(shape_picture(next(index), size).tobytes())
            writers[split].facts["pictures"] = count
    return _card(size, writers, SHAPES_RULE, "drawn", _Skipped())


def _card(size: int, writers: dict[str, SplitWriter], rule: str, made: str, skipped: _Skipped) -> dict[str, Any]:
    counts = {split: writer.facts["pictures"] for split, writer in writers.items()}
    return {
        **splits_part(writers),
        "picture": [size, size, 3],
        "layout": "each picture rows from the top, columns from the left, then red, green, blue; one byte each",
        "made": made,
        "pictures": counts,
        "skipped": {"pictures": skipped.count, "line": skipped.line(sum(counts.values()))},
        "rule": rule,
    }


def _digests_to_split(files: Files, size: int, rule: SplitRule) -> set[bytes]:
    """Of the pictures that no official split claims."""
    open_splits = {"train", *rule.held_out}
    named = ((name, digest_of(raster)) for name, raster in _rasters(files, size, _Skipped()))
    return {digest for name, digest in named if rule.split_of(name, digest) in open_splits}


def _rasters(files: Files, size: int, skipped: _Skipped) -> Iterator[tuple[str, np.ndarray]]:
    for name, read in pictures(files):
        try:
            raster = read(size)
        except UnreadablePicture as error:
            skipped.add(name, error)
        else:
            yield name, raster
