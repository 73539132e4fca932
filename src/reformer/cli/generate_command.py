"""``reformer generate RUN --prompt ...``: what a run makes of a prompt, or a folder of transformers by ``--hf``, as text."""

import codecs
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from reformer.cli.parsing import UsageError, parse_beside
from reformer.cli.runs import ModelOptions, load, parse_for_run

DESCRIPTION = """Continue a prompt with a trained run, or translate its lines with a run that learned to. With --hf FOLDER in
place of RUN: with a model of reformer convert, reformer.hf or transformers, and the options of text (--n-bytes counts tokens
then, which may be longer)."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What to start from."""

    prompt: str = ""
    """The text to continue, or sentences to translate, one a line; - reads standard input."""

    def read(self) -> bytes:
        """Its bytes."""
        return sys.stdin.buffer.read() if self.prompt == "-" else os.fsencode(self.prompt)


@dataclass(frozen=True, kw_only=True)
class PromptOptions(ModelOptions, Prompt):
    """What to start from, and which of a run's models."""


@dataclass(frozen=True, kw_only=True)
class FolderOptions(Prompt):
    """What to start from, and a folder in place of a run."""

    hf: Path | None = None
    """A folder of reformer convert, reformer.hf or a transformers Reformer."""


def run(arguments: Sequence[str]) -> int:
    """Parse, load and stream."""
    names_run = bool(arguments) and not arguments[0].startswith("-")
    names_folder = any(word.split("=", 1)[0] == "--hf" for word in arguments)
    if names_run == names_folder and arguments[:1] not in (["-h"], ["--help"]):
        raise UsageError("give either the folder of a run or --hf with a folder; see reformer generate --help")
    if names_folder:
        _continue_hf(arguments)
        return 0
    run_, options, how = parse_for_run("generate", arguments, PromptOptions(), "generate_options", DESCRIPTION)
    model, _, _ = load(run_, options)
    pieces = run_.config.generate(model, options.read(), how, options.cache_dir.expanduser(), run_.corpus_directory)
    stream_utf8(_lines(pieces), sys.stdout)
    return 0


def _continue_hf(arguments: Sequence[str]) -> None:
    from reformer.generation import Stopping
    from reformer.tasks.language_model import ContinueOptions, continuation

    options, how = parse_beside(
        FolderOptions(), ContinueOptions(), arguments, prog="reformer generate", description=DESCRIPTION
    )
    assert options.hf is not None
    from reformer.hf.folders import open_folder

    prompt = options.read()
    model, codec = open_folder(options.hf.expanduser())
    ids = codec.encode(prompt)
    stopping = Stopping(how.stop_strings, codec.to_bytes)
    tokens = continuation(model, ids, how, len(ids) + how.n_bytes, stopping)
    stream_utf8(_lines(itertools.chain([prompt], map(codec.to_bytes, tokens))), sys.stdout)


def stream_utf8(pieces: Iterable[bytes], stream: TextIO) -> None:
    """Write bytes as they come, always as valid UTF-8: what cannot be decoded becomes U+FFFD.

    On a terminal, control characters other than line ends and tabs are shown, not obeyed.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    shown = _printable if stream.isatty() else str
    binary = getattr(stream, "buffer", None)

    def write(text: str) -> None:
        if binary is not None:
            # The bytes themselves: the terminal's locale may not be UTF-8.
            binary.write(text.encode())
            binary.flush()
        else:
            stream.write(text)

    stream.flush()
    for piece in pieces:
        if text := decoder.decode(piece):
            write(shown(text))
    if text := decoder.decode(b"", final=True):
        write(shown(text))


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, and the end of the last line if they do not bring it."""
    last = b""
    for last in pieces:
        yield last
    if not last.endswith(b"\n"):
        yield b"\n"


def _printable(text: str) -> str:
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)
