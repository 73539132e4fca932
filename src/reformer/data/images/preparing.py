"""From pictures as the user has them to a corpus of rasters, each picture as many bytes as every other."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from reformer.data.corpus import SPLITS, Corpus, open_corpus, split_path
from reformer.data.errors import DataError
from reformer.data.files import file_key
from reformer.data.folder import folder_key, folder_members
from reformer.data.images.decoding import HOW, UnreadablePicture
from reformer.data.images.reading import SUFFIXES, holds_pictures, names, pictures
from reformer.data.images.shapes import N_PICTURES, RULE, shape_picture
from reformer.data.images.splits import SplitRule, choose_rule, digest_of
from reformer.data.preparing import SplitWriter, prepare

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
        return _prepare_shapes(cache_dir, size)
    path = _find(source, cache_dir)
    if os.path.isfile(path / "card.json") and os.path.isfile(split_path(path, "train")):
        return check_images(open_corpus(path), size)
    files = _files(path, source, cache_dir)
    key = _key(path, cache_dir, size)

    def fill(working: Path) -> dict:
        part = _fill(working, files, size, source)
        if _key(path, cache_dir, size) != key:
            raise DataError(f"{source} changed while it was read; run again when nothing writes to it")
        return part

    name = f"{path.resolve().name.split('.')[0]}-{size}x{size}"
    corpus = check_images(prepare(cache_dir, name, key, source, fill), size)
    if corpus.card["skipped"]["pictures"]:
        notice(corpus.card["skipped"]["line"])
    return corpus


def _find(source: str, cache_dir: Path) -> Path:
    """The file or folder that ``source`` names; where there is none, the path as given."""
    path = Path(source).expanduser()
    kept = [cache_dir / "images" / f"{source}{ending}" for ending in ("", ".zip", ".tar")]
    return next((found for found in (path, *kept) if found.exists()), path)


def _prepare_shapes(cache_dir: Path, size: int) -> Corpus:
    def fill(working: Path) -> dict:
        splits, index = {}, 0
        for split, count in N_PICTURES.items():
            with SplitWriter(working, split) as writer:
                for number in range(index, index + count):
                    writer.write(shape_picture(number, size).tobytes())
            splits[split] = {**writer.entry, "pictures": count}
            index += count
        return _card(size, splits, RULE, 0, "none", "drawn")

    return check_images(prepare(cache_dir, f"shapes-{size}x{size}", str(_FORMAT), "shapes", fill), size)


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
    for name, read in islice(pictures(_files(path, source)), limit):
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
        kept = (
            ""
            if cache_dir is None
            else f", here or called {source}, {source}.zip or {source}.tar in {cache_dir / 'images'}"
        )
        raise DataError(f"no file or folder {source}; expected pictures: a folder, a zip or tar archive of them{kept}")
    if not found:
        raise DataError(_no_pictures(source))
    return found


def _no_pictures(source: str) -> str:
    kinds = ", ".join(SUFFIXES)
    return f"{source} holds no pictures: expected files named {kinds}, a zip or tar archive of them, or npz batches, unpacked"


def _key(path: Path, cache_dir: Path, size: int) -> str:
    here = folder_key(path, folder_members(path, cache_dir)) if os.path.isdir(path) else file_key(path)
    return hashlib.sha256(f"pictures {_FORMAT} {size} {here}".encode()).hexdigest()[:16]


@dataclass
class _Tally:
    """What a pass over the pictures saw."""

    pictures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    n_skipped: int = 0
    skipped: list[str] = field(default_factory=list)

    def skip(self, name: str, error: UnreadablePicture) -> None:
        self.n_skipped += 1
        if self.n_skipped <= _NAMED:
            # A name may hold line breaks, and bytes that are no text.
            shown = " ".join(os.fsencode(name).decode("utf-8", "replace").split())
            self.skipped.append(f"{shown} ({error})")

    @property
    def line(self) -> str:
        more = "" if self.n_skipped <= _NAMED else f" and {self.n_skipped - _NAMED} more"
        of = self.n_skipped + sum(self.pictures.values())
        return f"{self.n_skipped} of {of} pictures cannot be read and are left out: {', '.join(self.skipped)}{more}"


def _fill(working: Path, files: Files, size: int, source: str) -> dict:
    rule = choose_rule(names(files))
    splits, tally = _write(working, files, size, rule)
    if not sum(tally.pictures.values()):
        raise DataError(tally.line if tally.n_skipped else _no_pictures(source))
    if not all(tally.pictures.values()):
        rule = rule.for_few(_digests_to_split(files, size, rule))
        splits, tally = _write(working, files, size, rule)
    if empty := [split for split, count in tally.pictures.items() if not count]:
        raise DataError(f"{source}: no picture of {', '.join(empty)} can be read; {tally.line}")
    return _card(size, splits, rule.text, tally.n_skipped, tally.line if tally.n_skipped else "none", HOW)


def _card(size: int, splits: dict[str, dict], rule: str, n_skipped: int, skipped: str, made: str) -> dict:
    return {
        "bytes": sum(entry["bytes"] for entry in splits.values()),
        "picture": [size, size, 3],
        "layout": "each picture rows from the top, columns from the left, then red, green, blue; one byte each",
        "made": made,
        "pictures": {split: entry["pictures"] for split, entry in splits.items()},
        "skipped": {"pictures": n_skipped, "line": skipped},
        "rule": rule,
        "splits": splits,
    }


def _write(working: Path, files: Files, size: int, rule: SplitRule) -> tuple[dict[str, dict], _Tally]:
    tally = _Tally()
    with ExitStack() as stack:
        writers = {split: stack.enter_context(SplitWriter(working, split)) for split in SPLITS}
        for name, raster in _rasters(files, size, tally):
            split = rule.split_of(name, digest_of(raster))
            writers[split].write(raster.tobytes())
            tally.pictures[split] += 1
    return {split: {**writers[split].entry, "pictures": tally.pictures[split]} for split in SPLITS}, tally


def _digests_to_split(files: Files, size: int, rule: SplitRule) -> set[bytes]:
    """Of the pictures that no official split claims."""
    open_splits = {"train", *rule.shares}
    named = ((name, digest_of(raster)) for name, raster in _rasters(files, size, _Tally()))
    return {digest for name, digest in named if rule.split_of(name, digest) in open_splits}


def _rasters(files: Files, size: int, tally: _Tally) -> Iterator[tuple[str, np.ndarray]]:
    for name, read in pictures(files):
        try:
            raster = read(size)
        except UnreadablePicture as error:
            tally.skip(name, error)
        else:
            yield name, raster
