"""One HTML page of an inspection that opens without a network: style and pictures are inside it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from reformer.inspection.tables import Table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { text-align: right; padding: 0.15rem 0.7rem; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th { border-bottom: 2px solid #999; } tr:hover td { background: #f3f7fb; }
img { max-width: 100%; } .wide { overflow-x: auto; } dt { font-weight: 600; } dd { margin: 0 0 0.4rem 1.2rem; }
"""
_MEANINGS = {
    "mass": "share of full attention's probability that lies on keys the head sees; full attention of the same q and k, "
    "every pair visible",
    "top-k": "share of a query's k likeliest keys under full attention that the head sees (of all its keys, if it has fewer)",
    "keys": "share of a query's keys that the head sees: what attention without preferences would recall",
    "effective": "exp(entropy) of the buckets' sizes: n if n buckets share the tokens evenly (mean over rounds)",
    "empty, largest": "share of buckets without a token; tokens in the fullest bucket of any round",
    "same bucket seen": "of the pairs that share a bucket in some round, those that chunk edges or the window leave",
    "distance": "probability by distance between query and key, under full attention and as the head attends",
}


def html_page(about: Mapping[str, Any], tables: Mapping[str, Table], pictures: Sequence[Path]) -> str:
    """The page: what was inspected, each table under its title, each PNG as part of the page, and what it all means."""
    facts = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in about.items())
    meanings = "".join(f"<dt>{escape(name)}</dt><dd>{escape(meaning)}</dd>" for name, meaning in _MEANINGS.items())
    parts = [
        *(_picture(path) for path in pictures),
        *(f'<h2>{escape(title)}</h2><div class="wide">{_table(table)}</div>' for title, table in tables.items()),
        f"<h2>What the numbers mean</h2><dl>{meanings}</dl>",
        f"<h2>What was inspected</h2><dl>{facts}</dl>",
    ]
    title = escape(f"Attention of {about['run']}")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{''.join(parts)}</body></html>\n"
    )


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    name = escape(path.stem)
    return f'<h2>{name.capitalize()}</h2><img alt="{name}" src="data:image/png;base64,{data}">'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table[0])
    lines = ("".join(f"<td>{escape(value)}</td>" for value in line.values()) for line in table)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
