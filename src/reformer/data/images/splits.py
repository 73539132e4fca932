"""Which split a picture goes to: the official one if there is one, else one told by its pixels."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from reformer.data.corpus import SPLITS
from reformer.data.errors import DataError

# "train", "val", "train_64x64.zip", "train_data_batch_3.npz", ...
_OFFICIAL = re.compile(
    r"(train|training|val|valid|validation|test)(_\d+x\d+|_data(_batch_\d+)?)?(\.(zip|tar|tgz|npz|tar\.(gz|xz|bz2)))?"
)
_MEANING = {"train": "train", "training": "train", "test": "test"}
# Percent of the pictures in each held-out split; a missing official one takes little of the official training set.
_PERCENT = 5
_PERCENT_OF_OFFICIAL = 1


def digest_of(raster: np.ndarray) -> bytes:
    """sha256 of the pixels: the same for a copy, a copy under another name and one in another lossless format."""
    return hashlib.sha256(raster.tobytes()).digest()


def official_split(name: str) -> str | None:
    """The split that a folder or archive in the name of a picture names, if any."""
    for part in name.lower().split("/")[:-1]:
        if found := _OFFICIAL.fullmatch(part):
            return _MEANING.get(found[1], "validation")
    return None


@dataclass(frozen=True)
class SplitRule:
    """``percent`` of what is not assigned already to each split of ``held_out``; ``few``: where to put which pixels."""

    is_official: bool
    held_out: tuple[str, ...]
    percent: int
    few: dict[bytes, str] = field(default_factory=dict)

    def split_of(self, name: str, digest: bytes) -> str:
        """The split of a picture. A further picture moves no other one, unless ``few`` decides."""
        given = official_split(name) if self.is_official else None
        if given not in (None, "train"):
            return str(given)
        if self.few:
            return self.few[digest]
        place = int.from_bytes(digest[:8], "big") % 100 // self.percent
        return self.held_out[place] if place < len(self.held_out) else "train"

    def for_few(self, digests: set[bytes]) -> "SplitRule":
        """The rule for so few pictures that one of the held-out splits had none: at least one each.

        Raises DataError where that leaves nothing to train on.
        """
        needed = len(self.held_out) + 1
        if len(digests) < needed:
            raise DataError(
                f"{len(digests)} different pictures to split: expected at least {needed}, one for each of "
                f"{', '.join(('train', *self.held_out))}; give more pictures"
            )
        count = max(1, len(digests) * self.percent // 100)
        held_out = [split for split in self.held_out for _ in range(count)]
        ordered = sorted(digests)
        return replace(self, few=dict.fromkeys(ordered, "train") | dict(zip(ordered, held_out)))

    @property
    def text(self) -> str:
        """The rule in words, for the card."""
        official = "official splits, by the names of folders, archives or batches" if self.is_official else ""
        if not self.held_out:
            return official
        if self.few:
            counts = ", ".join(f"the next {self.percent}% (at least one) {split}" for split in self.held_out)
            how = f"few pictures, in order of sha256(pixels): {counts}, the rest train"
        else:
            starts = zip(range(0, 100, self.percent), self.held_out)
            ranges = ", ".join(f"from {start} below {start + self.percent} {split}" for start, split in starts)
            how = f"sha256(pixels) mod 100: {ranges}, the rest train"
        return f"{official}; of those of train, {how}" if official else how


def choose_rule(names: Iterable[str]) -> SplitRule:
    """Official splits if every name tells one, train among them and another; those that are missing are held out."""
    found = {official_split(name) for name in names}
    if None in found or "train" not in found or len(found) == 1:
        return SplitRule(False, SPLITS[1:], _PERCENT)
    return SplitRule(True, tuple(split for split in SPLITS if split not in found), _PERCENT_OF_OFFICIAL)
