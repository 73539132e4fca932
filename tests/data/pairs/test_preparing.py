"""Pairs from files to ids: what is read, how it is split, that nothing is lost, and that a crash leaves nothing half."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from reformer.data import DataError
from reformer.data.pairs.corpus import PairCorpus, open_pairs
from reformer.data.pairs.numbers import english, german
from reformer.data.pairs.preparing import load_pairs
from reformer.data.pairs.vocabulary import END_ID, Vocabulary

from .files import SPLIT_SIZES, some_pairs, write_folder


def load(source: Path, cache: Path, vocab_size: int = 300) -> PairCorpus:
    return load_pairs(str(source), cache, source_lang="en", target_lang="de", vocab_size=vocab_size)


def test_a_folder_comes_back_as_text_and_as_ids(tmp_path):
    corpus = load(write_folder(tmp_path / "pairs"), tmp_path / "cache")
    start = 0
    for split, size in SPLIT_SIZES.items():
        expected = some_pairs(size, start)
        start += size
        assert corpus.text(split) == expected
        for side, sentences in enumerate(corpus.sentences(split)):
            assert len(sentences) == size
            for row, pair in enumerate(expected):
                ids = sentences[row]
                assert ids[-1] == END_ID and (ids[:-1] != END_ID).all()
                assert sentences.lengths[row] == len(ids)
                assert corpus.vocabulary.decode(ids.tolist()) == pair[side]


def test_the_vocabulary_is_learnt_from_the_training_pairs_alone_and_knows_all_text(tmp_path):
    folder = write_folder(tmp_path / "pairs")
    (folder / "test.de").write_text("Überraschung 🎉\tjetzt.\n" * SPLIT_SIZES["test"])
    first = load(folder, tmp_path / "a")
    vocabularies = [first.vocabulary]
    # Other held-out text changes no token.
    (folder / "validation.en").write_text("quite other words\n" * SPLIT_SIZES["validation"])
    second = load(folder, tmp_path / "b")
    paths = [c.corpus.directory / "vocabulary.json" for c in (first, second)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert 257 < vocabularies[0].size <= 300
    for text in ("Überraschung 🎉 jetzt.", "a </s> b", "日本語\u2028\x00", "  two  spaces "):
        (ids,) = first.vocabulary.encode([text])
        assert first.vocabulary.decode(ids.tolist()) == text
        assert (ids[:-1] != END_ID).all()
        assert ids.max() < first.vocabulary.size
    # A word of the training pairs is a few tokens, not one for each byte.
    for words in ("house tree", "haus baum"):
        assert len(first.vocabulary.encode([words])[0]) <= 5
    assert first.text("test")[0][1] == "Überraschung 🎉 jetzt."  # a tab would look like a column


def test_a_byte_order_mark_is_no_part_of_the_first_sentence(tmp_path):
    folder = write_folder(tmp_path / "pairs")
    for path in folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(folder, tmp_path / "cache").text("train") == some_pairs(SPLIT_SIZES["train"])


def test_the_same_file_twice_and_one_language_twice_are_refused(tmp_path):
    folder = write_folder(tmp_path / "pairs")
    with pytest.raises(DataError, match="source and target are both 'en'"):
        load_pairs(str(folder), tmp_path / "cache", source_lang="en", target_lang="en", vocab_size=300)
    (folder / "train.de.gz").write_bytes(gzip.compress((folder / "train.de").read_bytes()))
    with pytest.raises(DataError, match=r"holds both train\.de and train\.de\.gz, the same pairs twice; remove one"):
        load(folder, tmp_path / "cache")


def test_one_file_is_split_by_source_sentence(tmp_path):
    pairs = [(f"sentence {i // 3}", f"satz {i}") for i in range(3000)]
    file = tmp_path / "pairs.tsv.gz"
    lines = "".join(f"{a}\t{b}\tattribution {i}\n" for i, (a, b) in enumerate(pairs))
    file.write_bytes(gzip.compress(lines.encode()))
    corpus = load(file, tmp_path / "cache")
    found = {split: corpus.text(split) for split in SPLIT_SIZES}
    assert sorted(pair for text in found.values() for pair in text) == sorted(pairs)
    sources = {split: {source for source, _ in text} for split, text in found.items()}
    assert not sources["train"] & sources["test"] and not sources["train"] & sources["validation"]
    assert not sources["test"] & sources["validation"]
    assert all(0.003 < len(text) / 3000 < 0.03 for split, text in found.items() if split != "train")


def test_sets_of_a_split_and_pairs_with_an_empty_side(tmp_path):
    folder = write_folder(tmp_path / "pairs")
    (folder / "test.news.tsv").write_text("a\tb\r\n\n \tnothing\nc\td\n")
    corpus = load(folder, tmp_path / "cache")
    assert corpus.sets("test") == [("test", 0, 5), ("test.news", 5, 7)]
    assert corpus.text("test")[5:] == [("a", "b"), ("c", "d")]
    assert corpus.corpus.card["splits"]["test"]["left_out"] == 1


def test_prepared_once_and_again_when_something_changes(tmp_path):
    folder, cache = write_folder(tmp_path / "pairs"), tmp_path / "cache"
    first = load(folder, cache)
    assert load(folder, cache).corpus.directory == first.corpus.directory
    assert load(folder, cache, vocab_size=280).corpus.directory != first.corpus.directory
    (folder / "train.extra.tsv").write_text("more\tmehr\n")
    assert load(folder, cache).corpus.directory != first.corpus.directory
    assert open_pairs(first.corpus.directory).text("train") == first.text("train")


def test_a_crash_while_preparing_leaves_nothing_that_looks_ready(tmp_path, monkeypatch):
    folder, cache = write_folder(tmp_path / "pairs"), tmp_path / "cache"

    def crash(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Vocabulary, "encode", crash)
        with pytest.raises(KeyboardInterrupt):
            load(folder, cache)
    assert list(cache.iterdir()) == []
    assert len(load(folder, cache).text("train")) == SPLIT_SIZES["train"]


def test_ids_need_no_pickle(tmp_path):
    corpus = load(write_folder(tmp_path / "pairs"), tmp_path / "cache")
    path = corpus.corpus.directory / "train.source.ids.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        open_pairs(corpus.corpus.directory).sentences("train")


@pytest.mark.parametrize(
    ("break_it", "facts"),
    [
        (lambda f: (f / "train.de").unlink(), ("no partner", "train.de")),
        (lambda f: (f / "test.en").unlink(), ("no pairs for test", "test.en")),
        (lambda f: (f / "test.en").write_text("one line more\n" * 9), ("not parallel", "test.en", "line 6")),
        (lambda f: (f / "train.en").write_bytes(b"\xff\xfe\n"), ("line 1 is not UTF-8", "train.en")),
        (lambda f: (f / "test.x.tsv").write_text("a\tb\nno columns\n"), ("line 2 has one column", "test.x.tsv")),
        (lambda f: (f / "validation.en").write_text("\n" * 7), ("no pairs for validation",)),
    ],
)
def test_files_that_are_no_pairs_are_refused(tmp_path, break_it, facts):
    folder = write_folder(tmp_path / "pairs")
    break_it(folder)
    with pytest.raises(DataError) as caught:
        load(folder, tmp_path / "cache")
    assert all(fact in str(caught.value) for fact in facts), str(caught.value)


def test_a_small_vocabulary_a_missing_source_and_a_corpus_of_bytes_are_refused(tmp_path):
    folder = write_folder(tmp_path / "pairs")
    with pytest.raises(DataError, match="at least 257 tokens"):
        load(folder, tmp_path / "cache", vocab_size=100)
    with pytest.raises(DataError, match="no file or folder"):
        load(tmp_path / "missing", tmp_path / "cache")
    corpus = load(folder, tmp_path / "cache").corpus
    card = json.loads((corpus.directory / "card.json").read_text())
    del card["vocabulary"]
    (corpus.directory / "card.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="corpus of bytes"):
        open_pairs(corpus.directory)


def test_numbers_need_no_data(tmp_path):
    corpus = load_pairs("numbers", tmp_path, source_lang="en", target_lang="de", vocab_size=300)
    texts = {split: corpus.text(split) for split in SPLIT_SIZES}
    every = [source for text in texts.values() for source, _ in text]
    assert len(set(every)) == len(every) == 4400
    assert (english(321), german(321)) == ("three hundred twenty-one", "dreihundert einundzwanzig")
    assert (english(40_000), german(40_000)) == ("forty thousand", "vierzig tausend")
    assert (english(1_017), german(12_000)) == ("one thousand seventeen", "zwölf tausend")
    assert len({english(n) for n in range(100_000)}) == len({german(n) for n in range(100_000)}) == 100_000


def test_a_name_is_looked_for_among_the_kept_pairs(tmp_path):
    write_folder(tmp_path / "cache" / "pairs" / "mine")
    corpus = load(Path("mine"), tmp_path / "cache")
    assert len(corpus.text("train")) == SPLIT_SIZES["train"]
    with pytest.raises(DataError, match="no file or folder other"):
        load(Path("other"), tmp_path / "cache")
