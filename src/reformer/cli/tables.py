"""Tables on standard output: by rich on a terminal, aligned plain lines elsewhere."""

import sys


def print_table(title: str, table: list[dict[str, str]]) -> None:
    """Print the lines of ``table``, all with the same columns, under ``title``."""
    if sys.stdout.isatty() and _print_rich(title, table):
        return
    print(f"\n{title}\n{_aligned(table)}", flush=True)


def _aligned(table: list[dict[str, str]]) -> str:
    """Columns aligned; those that are empty throughout are left out."""
    names = [name for name in table[0] if any(line[name] for line in table)]
    widths = {name: max(len(name), *(len(line[name]) for line in table)) for name in names}
    head = {name: name for name in names}
    return "\n".join("  ".join(line[name].ljust(widths[name]) for name in names).rstrip() for line in [head, *table])


def _print_rich(title: str, table: list[dict[str, str]]) -> bool:
    """False if rich is not installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    shown = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in table[0]:
        shown.add_column(name, justify="right", no_wrap=True)
    for line in table:
        shown.add_row(*line.values())
    console = Console()
    console.print()
    console.print(shown)
    return True
