"""The rows of ``inspect_model`` as tables of text, for a terminal or a page."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

Row = dict[str, Any]
Table = list[dict[str, str]]

SHARES = {"keys": "keys", "mass": "mass", "top1": "top-1", "top8": "top-8", "top32": "top-32"}
# Distance bins of a column each: few enough for a terminal's width.
_GROUPS = {"0-1": (0, 2), "2-7": (2, 4), "8-63": (4, 7), "64-511": (7, 10), "512-4095": (10, 13), "4096+": (13, None)}


def by_layer(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The heads of each layer."""
    for _, heads in groupby(rows, key=lambda row: row["layer"]):
        yield list(heads)


def mean(values: Iterable[float | None]) -> float | None:
    """Their mean; None if one is missing, or all are."""
    known = list(values)
    return None if not known or None in known else sum(known) / len(known)  # type: ignore[arg-type]


def tables(rows: list[Row]) -> dict[str, Table]:
    """Tables by title, each within 80 columns; one without lines is left out."""
    layers = list(by_layer(rows))
    made = {
        "What each head sees of full attention": [_head(row) for row in rows if "recall" in row],
        "Hash buckets of each LSH head": [_buckets(row) for row in rows if "occupancy" in row],
        "LSH layers by number of hash rounds, mean over heads": [line for heads in layers for line in _rounds(heads)],
        "Attention mass by distance, mean over heads": [line for heads in layers for line in _distances(heads)],
    }
    return {title: table for title, table in made.items() if table}


def _head(row: Row) -> dict[str, str]:
    own = len(row["occupancy"]) if row["kind"] == "lsh" else None
    (recall,) = (entry for entry in row["recall"] if entry["rounds"] == own)
    line = {"layer": str(row["layer"]), "kind": row["kind"], "head": str(row["head"])}
    return line | {shown: _percent(recall[name]) for name, shown in SHARES.items()}


def _buckets(row: Row) -> dict[str, str]:
    occupancy = row["occupancy"]
    return {
        "layer": str(row["layer"]),
        "head": str(row["head"]),
        "buckets": f"{occupancy[0]['n_buckets']:,}",
        "effective": f"{mean(entry['effective_buckets'] for entry in occupancy):.1f}",
        "empty": _percent(mean(entry["empty_share"] for entry in occupancy)),
        "largest": f"{max(entry['sizes']['max'] for entry in occupancy):,.0f}",
        "same bucket seen": _percent(row["same_bucket_seen"]),
    }


def _rounds(heads: list[Row]) -> Iterator[dict[str, str]]:
    if heads[0]["kind"] != "lsh":
        return
    for view, entry in enumerate(heads[0]["recall"]):
        own = " (model)" if entry["rounds"] == len(heads[0]["occupancy"]) else ""
        line = {"layer": str(heads[0]["layer"]), "rounds": f"{entry['rounds']}{own}"}
        for name, shown in SHARES.items():
            line[shown] = _percent(mean(head["recall"][view][name] for head in heads))
        yield line


def _distances(heads: list[Row]) -> Iterator[dict[str, str]]:
    kind = heads[0]["kind"]
    for name, shown in (("distance_full", "full"), ("distance_own", kind)):
        if name in heads[0]:
            line = {"layer": str(heads[0]["layer"]), "attention": shown}
            for label, (low, high) in _GROUPS.items():
                line[label] = _percent(mean(sum(head[name][low:high]) for head in heads))
            yield line


def _percent(share: float | None) -> str:
    """12.3%, or nothing for None."""
    return "" if share is None else f"{share:.1%}"
