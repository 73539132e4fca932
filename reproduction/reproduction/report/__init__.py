"""The report: every table and figure from the rows in ``results/``, as Markdown and as one self-contained HTML page."""
