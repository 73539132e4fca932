"""What a run's card says about the corpus it was trained on."""

from typing import Any

from reformer.data import Corpus


def corpus_card(corpus: Corpus) -> dict[str, Any]:
    """Source, checksums and splits, and whatever else the corpus tells of itself."""
    card = corpus.card
    splits = card["splits"]
    return {
        "source": card.get("source", corpus.name),
        "name": corpus.name,
        "checksums": {name: split["sha256"] for name, split in splits.items()},
        "splits": {name: split["bytes"] for name, split in splits.items()},
        **{name: value for name, value in card.items() if name not in ("splits", "source", "name")},
    }
