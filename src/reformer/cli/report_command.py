"""``reformer report``: all results beside the paper's, as a document and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reformer.cli.parsing import UsageError, parse


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Where the rows are and where the report goes."""

    results: Path = Path("results")
    out: Path = Path("docs/results.md")
    """The document; the page and the drawings are written beside it."""


def run(arguments: Sequence[str]) -> int:
    """Parse, write, and name what was written."""
    from reformer.experiments.report import write_report

    options = parse(
        ReportOptions, arguments, prog="reformer report", description="Tables and figures from the rows in results/."
    )
    if not options.results.is_dir():
        raise UsageError(f"no folder {options.results}; make rows with: reformer reproduce NAME")
    if options.out.suffix != ".md":
        raise UsageError(f"--out names the document, a .md file (the page is written beside it), got {options.out}")
    for path in write_report(options.results, options.out):
        print(path)
    return 0
