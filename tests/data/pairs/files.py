"""Small corpora of pairs: words of a made-up language, translated word by word."""

from pathlib import Path

WORDS = {"one": "eins", "two": "zwei", "three": "drei", "red": "rot", "blue": "blau", "house": "haus", "tree": "baum"}
SPLIT_SIZES = {"train": 60, "validation": 7, "test": 5}


def some_pairs(n: int, start: int = 0) -> list[tuple[str, str]]:
    """Sentences of one to five words, the same every time."""
    words, pairs = list(WORDS), []
    for i in range(start, start + n):
        chosen = [words[(i * (k + 3) + k * k + i // 7) % len(words)] for k in range(1 + i % 5)]
        pairs.append((" ".join(chosen) + ".", " ".join(WORDS[word] for word in chosen) + "."))
    return pairs


def write_folder(folder: Path) -> Path:
    """train.en, train.de, .. of a corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for split, size in SPLIT_SIZES.items():
        pairs = some_pairs(size, start)
        start += size
        for side, lang in enumerate(("en", "de")):
            (folder / f"{split}.{lang}").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    return folder
