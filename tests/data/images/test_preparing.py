import hashlib
import json
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reformer.data import SPLITS, Corpus, load_corpus, open_corpus
from reformer.data.images import load_images, open_images, read_images
from reformer.data.images import preparing as preparing_module

from ..helpers import entries, refuses, some_bytes, unhurried
from .helpers import encoded, raster, some_pictures, write_folder, write_npz, write_tar, write_zip

OFFICIAL = {**some_pictures(30, "train/"), **some_pictures(5, "val/", 100), **some_pictures(4, "test/", 200)}


def rasters(corpus: Corpus) -> dict[str, list[bytes]]:
    return {split: [picture.tobytes() for picture in open_images(corpus, split)] for split in SPLITS}


def seeds(first: int, n: int) -> list[bytes]:
    return [raster(first + i).tobytes() for i in range(n)]


def test_pictures_lie_one_after_another_in_raster_order(tmp_path: Path, cache: Path):
    corpus = load_images(str(write_folder(tmp_path / "photos", OFFICIAL)), cache, 8)
    assert rasters(corpus) == {"train": seeds(0, 30), "validation": seeds(100, 5), "test": seeds(200, 4)}
    # Byte (row, column, channel) of picture i is at i * 192 + row * 24 + column * 3 + channel.
    assert corpus.split("train")[7 * 192 + 5 * 24 + 3 * 3 + 1] == raster(7)[5, 3, 1]
    assert corpus.card["picture"] == [8, 8, 3]
    assert corpus.card["pictures"] == {"train": 30, "validation": 5, "test": 4}
    assert corpus.card["bytes"] == 39 * 192
    open_corpus(corpus.directory, verify=True)


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_archives_give_what_a_folder_gives(tmp_path: Path, cache: Path, write):
    suffix = ".zip" if write is write_zip else ".tar"
    clutter = {"train/notes.txt": b"no picture", "__MACOSX/train/._000.png": b"x", ".hidden/a.png": b"x"}
    archive = write(tmp_path / f"photos{suffix}", {**clutter, **OFFICIAL})
    folder = write_folder(tmp_path / "photos", {**clutter, **OFFICIAL})
    assert rasters(load_images(str(archive), cache, 8)) == rasters(load_images(str(folder), cache, 8))


def test_a_zip_with_the_separators_of_windows_gives_the_same(tmp_path: Path, cache: Path):
    there = {name.replace("/", "\\"): data for name, data in {**OFFICIAL, "__MACOSX/train/._a.png": b"x"}.items()}
    archive = write_zip(tmp_path / "there.zip", there)
    folder = write_folder(tmp_path / "here", OFFICIAL)
    assert rasters(load_images(str(archive), cache, 8)) == rasters(load_images(str(folder), cache, 8))


def test_the_older_release_is_two_archives_in_a_folder(tmp_path: Path, cache: Path):
    folder = tmp_path / "imagenet64"
    folder.mkdir()
    write_zip(folder / "train_64x64.zip", some_pictures(400, "train_64x64/"))
    write_tar(folder / "valid_64x64.tar", some_pictures(5, "valid_64x64/", 1000))
    found = rasters(load_images(str(folder), cache, 8))
    assert found["validation"] == seeds(1000, 5)
    assert sorted(found["train"] + found["test"]) == sorted(seeds(0, 400))
    held_out = [s for s in seeds(0, 400) if int.from_bytes(hashlib.sha256(s).digest()[:8], "big") % 100 == 0]
    assert found["test"] == held_out != []


def test_npz_batches_are_interleaved(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "imagenet64"
    folder.mkdir()
    train = np.stack([raster(i) for i in range(700)])
    write_npz(folder / "train_data_batch_1.npz", train[:400], mean=np.zeros(192))
    write_npz(folder / "train_data_batch_2.npz", train[400:])
    write_npz(folder / "val_data.npz", np.stack([raster(1000 + i) for i in range(6)]))
    # A library that unpickles nothing needs no pickle.
    monkeypatch.setattr("pickle.load", None)
    found = rasters(load_images(str(folder), cache, 8))
    assert found["validation"] == seeds(1000, 6)
    assert sorted(found["train"] + found["test"]) == sorted(seeds(0, 700))
    assert 0 < len(found["test"]) < 20


def test_npz_pictures_of_another_size_are_reduced(tmp_path: Path, cache: Path):
    path = write_npz(tmp_path / "train_data.npz", np.stack([raster(i) for i in range(9)]))
    found = rasters(load_images(str(path), cache, 4))
    expected = load_images(str(write_folder(tmp_path / "photos", some_pictures(9))), cache, 4)
    assert {name: sorted(found[name]) for name in SPLITS} == {n: sorted(p) for n, p in rasters(expected).items()}


@pytest.mark.parametrize(
    ("arrays", "facts"),
    [
        ({"images": np.zeros((3, 192), np.uint8)}, ["no array named data"]),
        ({"data": np.zeros((3, 190), np.uint8)}, ["uint8 [3, 190]", "expected uint8 [N, 3 * size * size]"]),
        ({"data": np.zeros((3, 192), np.float32)}, ["float32 [3, 192]"]),
        ({"data": np.array([{"a": 1}] * 3, dtype=object)}, ["object [3]"]),
    ],
)
def test_other_npz_files_are_refused(tmp_path: Path, cache: Path, arrays: dict, facts: list[str]):
    np.savez(tmp_path / "val_data.npz", **arrays)
    with refuses("val_data.npz", *facts):
        load_images(str(tmp_path / "val_data.npz"), cache, 8)


@pytest.mark.parametrize("cut", [40, 4000])
def test_damaged_npz_is_named(tmp_path: Path, cache: Path, cut: int):
    path = write_npz(tmp_path / "val_data.npz", np.stack([raster(i) for i in range(60)]))
    path.write_bytes(path.read_bytes()[:-cut])
    with refuses("val_data.npz", "damaged"):
        load_images(str(path), cache, 8)
    assert entries(cache) == []


def test_duplicates_never_sit_in_two_splits(tmp_path: Path, cache: Path):
    files = some_pictures(60, "a/")
    files |= {name.replace("a/", "b/copy-"): data for name, data in files.items()}
    files |= {f"c/{i:03}.bmp": encoded(raster(i), "BMP") for i in range(60)}
    found = rasters(load_images(str(write_folder(tmp_path / "photos", files)), cache, 8))
    assert sorted(map(len, found.values())) != [0, 0, 180]
    assert all(len(found[split]) == 3 * len(set(found[split])) > 0 for split in SPLITS)
    assert not set(found["train"]) & set(found["test"] + found["validation"])
    assert not set(found["test"]) & set(found["validation"])


def test_more_pictures_move_none(tmp_path: Path, cache: Path):
    folder = write_folder(tmp_path / "photos", some_pictures(150))
    before = rasters(load_images(str(folder), cache, 8))
    write_folder(folder, some_pictures(50, "more/", 500))
    after = rasters(load_images(str(folder), cache, 8))
    assert all(set(before[split]) <= set(after[split]) for split in SPLITS)
    assert sum(map(len, after.values())) == 200


def test_few_pictures_still_fill_every_split(tmp_path: Path, cache: Path):
    corpus = load_images(str(write_folder(tmp_path / "photos", some_pictures(4))), cache, 8)
    assert corpus.card["pictures"] == {"train": 2, "validation": 1, "test": 1}
    assert sorted(picture for split in rasters(corpus).values() for picture in split) == sorted(seeds(0, 4))
    with refuses("1 different pictures", "at least 3"):
        same = {f"{i}.png": encoded(raster(0)) for i in range(9)}
        load_images(str(write_folder(tmp_path / "same", same)), cache, 8)


def test_damaged_pictures_are_left_out_and_named_once(tmp_path: Path, cache: Path):
    folder = write_folder(tmp_path / "photos", OFFICIAL)
    (folder / "train" / "005.png").write_bytes(b"no picture")
    (folder / "val" / "001.png").write_bytes(encoded(raster(101), "JPEG")[:-30])
    said: list[str] = []
    corpus = load_images(str(folder), cache, 8, said.append)
    assert len(said) == 1 and "\n" not in said[0]
    for fact in ("2 of 39", "train/005.png (not a picture", "val/001.png (damaged"):
        assert fact in said[0]
    assert corpus.card["pictures"] == {"train": 29, "validation": 4, "test": 4}
    assert corpus.card["skipped"] == {"pictures": 2, "line": said[0]}
    assert load_images(str(folder), cache, 8, said.append).directory == corpus.directory
    assert said[1:] == said[:1]


def test_many_damaged_pictures_are_counted(tmp_path: Path, cache: Path):
    bad = {f"bad{i}.png": b"x" for i in range(30)}
    said: list[str] = []
    load_images(str(write_folder(tmp_path / "photos", {**bad, **some_pictures(20)})), cache, 8, said.append)
    assert said[0].startswith("30 of 50") and said[0].endswith("and 25 more") and said[0].count("not a picture") == 5


def test_nothing_left_is_an_error(tmp_path: Path, cache: Path):
    with refuses("3 of 3 pictures cannot be read", "0.png (not a picture"):
        load_images(str(write_folder(tmp_path / "bad", {f"{i}.png": b"x" for i in range(3)})), cache, 8)
    with refuses("holds no pictures", ".png", "zip"):
        load_images(str(write_folder(tmp_path / "text", {"a.txt": b"text"})), cache, 8)
    with refuses("no picture of test can be read", "test/a.png"):
        files = {**some_pictures(9, "train/"), **some_pictures(2, "val/", 50), "test/a.png": b"x"}
        load_images(str(write_folder(tmp_path / "untested", files)), cache, 8)
    with refuses("imagenet64 has no download", "val_data.npz"):
        load_images("imagenet64", cache, 8)
    with refuses("no file or folder"):
        load_images(str(tmp_path / "nowhere"), cache, 8)
    assert entries(cache) == []


def test_entries_that_would_leave_the_archive_write_nothing(tmp_path: Path):
    inside = tmp_path / "inside"
    inside.mkdir()
    evil = {f"../../evil{i}.png": encoded(raster(i)) for i in range(20)}
    evil |= {f"{tmp_path}/absolute{i}.png": encoded(raster(20 + i)) for i in range(20)}
    for write, name in ((write_zip, "evil.zip"), (write_tar, "evil.tar")):
        before = {path for path in tmp_path.rglob("*.png")}
        corpus = load_images(str(write(inside / name, evil)), inside / "cache", 8)
        assert sum(corpus.card["pictures"].values()) == 40
        assert {path for path in tmp_path.rglob("*.png")} == before == set()


def test_entry_that_expands_beyond_reason_is_left_out(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reformer.data.images.reading.MAX_FILE_BYTES", 5000)
    files = {**some_pictures(20), "bomb.png": bytes(5001)}
    for write, name in ((write_zip, "a.zip"), (write_tar, "b.tar"), (write_folder, "c")):
        said: list[str] = []
        load_images(str(write(tmp_path / name, files)), cache, 8, said.append)
        assert said[0].startswith("1 of 21") and "bomb.png (a file of more than" in said[0]


def test_encrypted_entry_is_left_out(tmp_path: Path, cache: Path):
    path = write_zip(tmp_path / "a.zip", some_pictures(20))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        data[archive.infolist()[0].header_offset + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    said: list[str] = []
    load_images(str(path), cache, 8, said.append)
    assert said[0].startswith("1 of 20") and "encrypted" in said[0]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_damaged_archive_is_named(tmp_path: Path, cache: Path, name: str):
    (tmp_path / name).write_bytes(some_bytes(3000))
    with refuses(name, "archive"):
        load_images(str(tmp_path / name), cache, 8)
    assert entries(cache) == []


def test_archive_cut_short_in_a_picture(tmp_path: Path, cache: Path):
    path = write_tar(tmp_path / "a.tar", some_pictures(30))
    with tarfile.open(path) as archive:
        end = archive.getmembers()[20].offset_data + 40
    path.write_bytes(path.read_bytes()[:end])
    with refuses("a.tar", "tar archive", "fetch it again"):
        load_images(str(path), cache, 8)
    assert entries(cache) == []


@pytest.mark.parametrize("beyond", [0, 100])
def test_archive_cut_short_between_pictures_or_in_a_header(tmp_path: Path, cache: Path, beyond: int):
    path = write_tar(tmp_path / "a.tar", some_pictures(30))
    with tarfile.open(path) as archive:
        end = archive.getmembers()[20].offset + beyond
    path.write_bytes(path.read_bytes()[:end])
    with refuses("a.tar", "cut short", "fetch it again"):
        load_images(str(path), cache, 8)


def test_archive_with_a_damaged_header(tmp_path: Path, cache: Path):
    path = write_tar(tmp_path / "a.tar", some_pictures(30))
    with tarfile.open(path) as archive:
        start = archive.getmembers()[20].offset
    data = bytearray(path.read_bytes())
    data[start + 3] ^= 1
    path.write_bytes(bytes(data))
    with refuses("a.tar", "damaged", "fetch it again"):
        load_images(str(path), cache, 8)


def test_names_that_are_no_line_of_text(tmp_path: Path, cache: Path):
    files = {**some_pictures(9), "two\nlines.png": b"x", "no\udcff text.png": b"x"}
    said: list[str] = []
    corpus = load_images(str(write_folder(tmp_path / "photos", files)), cache, 8, said.append)
    assert "two lines.png" in said[0] and "no\ufffd text.png" in said[0] and "\n" not in said[0]
    assert json.loads((corpus.directory / "card.json").read_text())["skipped"]["line"] == said[0]


def test_pillow_is_asked_for_only_where_it_is_needed(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    photos = write_folder(tmp_path / "photos", some_pictures(9))
    batch = write_npz(tmp_path / "train_data.npz", np.stack([raster(i) for i in range(9)]))
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert sum(load_images(str(batch), cache, 8).card["pictures"].values()) == 9
    with refuses("Pillow", "pip install 'reformer-torch[train]'"):
        load_images(str(photos), cache, 8)


def test_prepared_once_per_size_and_anew_after_a_change(tmp_path: Path, cache: Path):
    # So long a name that its end, which tells the size, is cut off.
    folder = write_folder(tmp_path / ("photos" * 12), some_pictures(40))
    found = [load_images(str(folder), cache, size).directory for size in (8, 8, 4)]
    assert found[0] == found[1] != found[2]
    (folder / "new.png").write_bytes(encoded(raster(99)))
    assert load_images(str(folder), cache, 8).directory not in found


def test_folder_that_changes_while_it_is_read(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_folder(tmp_path / "photos", some_pictures(40))
    choose = preparing_module.choose_rule

    def and_change(names):
        (folder / "new.png").write_bytes(encoded(raster(99)))
        return choose(names)

    monkeypatch.setattr(preparing_module, "choose_rule", and_change)
    with refuses("photos changed while it was read"):
        load_images(str(folder), cache, 8)
    assert entries(cache) == []


def test_a_prepared_corpus_is_opened_if_it_fits(tmp_path: Path, cache: Path):
    corpus = load_images(str(write_folder(tmp_path / "photos", some_pictures(40))), cache, 8)
    assert load_images(str(corpus.directory), cache, 8) == corpus
    with refuses("pictures of 8 x 8, 16 x 16 are needed"):
        load_images(str(corpus.directory), cache, 16)
    (tmp_path / "text").write_bytes(some_bytes(100))
    text = load_corpus(str(tmp_path / "text"), cache)
    with refuses("a corpus of bytes, not of pictures"):
        load_images(str(text.directory), cache, 8)


def test_pictures_outside_of_a_corpus(tmp_path: Path):
    folder = write_folder(tmp_path / "photos", some_pictures(5))
    assert [p.tobytes() for p in read_images(str(folder), 8, 3)] == seeds(0, 3)
    assert read_images(str(folder / "004.png"), 8, 3)[0].tobytes() == raster(4).tobytes()
    (folder / "000.png").write_bytes(b"x")
    with refuses("cannot read 000.png", "not a picture"):
        read_images(str(folder), 8, 3)


@unhurried
@given(
    data=st.binary(max_size=300), start=st.sampled_from([b"", encoded(raster(0))[:50], encoded(raster(0), "JPEG")[:90]])
)
def test_any_bytes_give_a_raster_or_one_reason(data: bytes, start: bytes):
    from reformer.data.images.decoding import UnreadablePicture, decode_picture

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reason, found = "", None
        try:
            found = decode_picture(start + data, 8)
        except UnreadablePicture as error:
            reason = str(error)
    assert reason if found is None else found.shape == (8, 8, 3)
