"""Markdown with its pictures as one HTML page that opens without a network."""

import base64
import html
import re
from pathlib import Path

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; display: block; overflow-x: auto; }
th, td { border: 1px solid #ddd; padding: 0.25rem 0.6rem; text-align: left; }
th { background: #f4f6f8; }
code { background: #f4f6f8; padding: 0 0.2rem; }
img { max-width: 100%; }
"""
_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def html_page(title: str, markdown: str, folder: Path) -> str:
    """The page; pictures named relative to ``folder`` are put inside it. Needs markdown-it-py."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark").enable("table").render(markdown)
    body = re.sub(r'<img src="([^"]+)"', lambda match: f'<img src="{_inline(folder / match[1])}"', body)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _inline(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_TYPES[path.suffix]};base64,{data}"
