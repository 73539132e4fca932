"""Which split a picture goes to: the official one if there is one, else one told by its pixels."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from reformer.data.corpus import SPLITS
from reformer.data.errors import DataError

# "train", "val", "train_64x64.zip", "train_data_batch_3.npz", ...
_OFFICIAL = re.compile(
    r"(train|training|val|valid|validation|test)(_\d+x\d+|_data(_batch_\d+)?)?(\.(zip|tar|tgz|npz|tar\.(gz|xz|bz2)))?"
)
_MEANING = {"train": "train", "training": "train", "test": "test"}
# Percent of the pictures, in the order of their ranges; a missing official split takes little of the official training set.
_SHARES = {"validation": 5, "test": 5}
_SHARE_OF_OFFICIAL = 1


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
    """``shares``: percent held out per split of what is not assigned already; ``few``: where to put which pixels."""

    is_official: bool
    shares: dict[str, int]
    few: dict[bytes, str] = field(default_factory=dict)

    def split_of(self, name: str, digest: bytes) -> str:
        """The split of a picture. A further picture moves no other one, unless ``few`` decides."""
        given = official_split(name) if self.is_official else None
        if given not in (None, "train"):
            return str(given)
        if self.few:
            return self.few[digest]
        number = int.from_bytes(digest[:8], "big") % 100
        return next((split for split, start, end in self._ranges() if start <= number < end), "train")

    def for_few(self, digests: set[bytes]) -> "SplitRule":
        """The rule for so few pictures that one of the held-out splits had none: at least one each.

        Raises DataError where that leaves nothing to train on.
        """
        waiting = sorted(digests)
        needed = len(self.shares) + 1
        if len(waiting) < needed:
            raise DataError(
                f"{len(waiting)} different pictures to split: expected at least {needed}, one for each of "
                f"{', '.join(('train', *self.shares))}; give more pictures"
            )
        few = {}
        for split, percent in self.shares.items():
            count = max(1, len(digests) * percent // 100)
            few.update(dict.fromkeys(waiting[:count], split))
            waiting = waiting[count:]
        return SplitRule(self.is_official, self.shares, {**few, **dict.fromkeys(waiting, "train")})

    @property
    def text(self) -> str:
        """The rule in words, for the card."""
        official = "official splits, by the names of folders, archives or batches" if self.is_official else ""
        if not self.shares:
            return official
        ranges = ", ".join(f"from {start} below {end} {split}" for split, start, end in self._ranges())
        how = f"sha256(pixels) mod 100: {ranges}, the rest train"
        if self.few:
            counts = ", ".join(f"the next {percent}% (at least one) {split}" for split, percent in self.shares.items())
            how = f"few pictures, in order of sha256(pixels): {counts}, the rest train"
        return f"{official}; of those of train, {how}" if official else how

    def _ranges(self) -> Iterator[tuple[str, int, int]]:
        end = 0
        for split, percent in self.shares.items():
            start, end = end, end + percent
            yield split, start, end


def choose_rule(names: Iterable[str]) -> SplitRule:
    """Official splits if every name tells one, train among them and another; those that are missing are held out."""
    found = {official_split(name) for name in names}
    if None in found or "train" not in found or len(found) == 1:
        return SplitRule(False, _SHARES)
    return SplitRule(True, {split: _SHARE_OF_OFFICIAL for split in SPLITS if split not in found})
