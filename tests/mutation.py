"""One way to break the code: what to look for, what to put in its place, and which tests must notice.

The lists are the files ``mutations.py`` beside the tests; ``python tests/mutate.py`` goes through them. What is looked for
is compared token by token, so that it outlives a formatter: line breaks, indentation, comments, the comma before a closing
bracket and the kind of quotes do not count. In C++ white space does not.
"""

import ast
import io
import itertools
import runpy
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """``old`` occurs once in ``file``; with ``new`` in its place the selected tests must fail.

    ``file`` is below src/reformer, or "csrc/..", or "reproduction/..". ``within`` narrows the search to a function, a class
    or a "Class.method". ``tests`` is what pytest is told: in a list, below the list's folder.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    within: str | None = None

    @property
    def path(self) -> Path:
        """The file, below the root of the repository."""
        return Path(self.file) if self.file.startswith(("csrc/", "reproduction/")) else Path("src/reformer", self.file)

    def apply(self, source: str) -> str:
        """The text of the file with ``new`` in the place of ``old``; ValueError if ``old`` is not there exactly once."""
        if self.path.suffix == ".py":
            wanted, there = _python(textwrap.dedent(self.old)), _python(source)
        else:
            wanted, there = _letters(self.old), _letters(source)
        if self.within is not None:
            first, end = _extent(source, self.within)
            there = [token for token in there if first <= token.start < end]
        texts, key = [token.text for token in there], [token.text for token in wanted]
        found = [at for at in range(len(texts) - len(key) + 1) if texts[at : at + len(key)] == key]
        if len(found) != 1:
            place = self.file if self.within is None else f"{self.within} of {self.file}"
            raise ValueError(f"{self.name}: expected the old text once in {place}, got it {len(found)} times")
        start, end = there[found[0]].start, there[found[0] + len(key) - 1].end
        line = source[source.rfind("\n", 0, start) + 1 :]
        indentation = line[: len(line) - len(line.lstrip())]
        return source[:start] + textwrap.dedent(self.new).replace("\n", "\n" + indentation) + source[end:]


def mutations() -> list[Mutation]:
    """All lists, ordered by folder, ``tests`` written from the root of the repository."""
    lists = [(path.parent, runpy.run_path(str(path))["MUTATIONS"]) for path in sorted(TESTS.rglob("mutations.py"))]
    return [
        replace(m, tests=f"{folder.relative_to(ROOT).as_posix()}/{m.tests}") for folder, found in lists for m in found
    ]


class _Token(NamedTuple):
    text: str
    start: int
    end: int


def _letters(source: str) -> list[_Token]:
    return [_Token(letter, at, at + 1) for at, letter in enumerate(source) if not letter.isspace()]


def _python(source: str) -> list[_Token]:
    lines = list(itertools.accumulate(map(len, io.StringIO(source)), initial=0))
    tokens = [
        _Token(_without_quotes(t), lines[t.start[0] - 1] + t.start[1], lines[t.end[0] - 1] + t.end[1])
        for t in _tokenize(source)
        if t.type not in _LAYOUT
    ]
    following = [token.text for token in tokens[1:]] + [""]
    return [token for token, after in zip(tokens, following) if not (token.text == "," and after in (")", "]", "}"))]


def _tokenize(source: str) -> Iterator[tokenize.TokenInfo]:
    try:
        yield from tokenize.generate_tokens(io.StringIO(source).readline)
    except tokenize.TokenError as error:
        # A key may be the beginning of a call, its bracket left open.
        if "EOF" not in str(error):
            raise


def _without_quotes(token: tokenize.TokenInfo) -> str:
    # From Python 3.12 on an f-string is several tokens, of which the first and the last end with the quotes.
    if token.type == tokenize.STRING:
        return ast.dump(ast.parse(token.string, mode="eval"))
    return token.string.rstrip("\"'")


def _extent(source: str, name: str) -> tuple[int, int]:
    node: ast.AST = ast.parse(source)
    for part in name.split("."):
        inside = ast.iter_child_nodes(node)
        node = next((each for each in inside if getattr(each, "name", None) == part), None)
        if node is None:
            raise ValueError(f"there is no {name}: nothing in it is called {part}")
    lines = list(itertools.accumulate(map(len, io.StringIO(source)), initial=0))
    return lines[node.lineno - 1], lines[node.end_lineno]
