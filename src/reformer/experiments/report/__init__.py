"""The report: every table and figure from the rows in ``results/``, as Markdown and as one self-contained HTML page."""

from reformer.experiments.report.document import write_report

__all__ = ["write_report"]
