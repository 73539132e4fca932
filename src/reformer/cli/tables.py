"""Tables on standard output by rich: on a terminal with a title in bold, as plain aligned lines elsewhere."""

import sys

from rich.console import Console
from rich.table import Table

_PIPED_WIDTH = 1000


def print_table(title: str, table: list[dict[str, str]]) -> None:
    """Print the lines of ``table``, all with the same columns, under ``title``; columns without an entry are left out."""
    shown = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    names = [name for name in table[0] if any(line[name] for line in table)]
    for name in names:
        shown.add_column(name, justify="right", no_wrap=True)
    for line in table:
        shown.add_row(*(line[name] for name in names))
    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    console.print()
    console.print(shown)
