"""``reformer generate RUN --prompt ...``: what a run makes of a prompt, or a folder of transformers by ``--hf``, as text."""

import codecs
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from reformer.cli.parsing import UsageError, parse_beside
from reformer.cli.runs import ModelOptions, load, named_run, task_help

if TYPE_CHECKING:
    from reformer.conversion import Codec
    from reformer.models import ReformerLM
    from reformer.tasks.config import GenerateOptions
    from reformer.training.run_directory import Run

DESCRIPTION = "Continue a prompt with a trained run, or translate its lines with a run that learned to."


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
    if arguments[:1] in (["-h"], ["--help"]):
        print(task_help("generate", DESCRIPTION, PromptOptions, lambda config: config.generate_options))
        print(
            "\nreformer generate --hf FOLDER [options]: with a model of reformer convert, reformer.hf or transformers,"
        )
        print("and the options of text; --n-bytes counts tokens then, which may be longer.")
        return 0
    if not arguments or arguments[0].startswith("-"):
        _continue_hf(arguments)
        return 0
    run_ = named_run("generate", arguments)
    options, how = parse_beside(
        PromptOptions(),
        run_.config.generate_options(),
        arguments[1:],
        prog=f"reformer generate {arguments[0]}",
        description=DESCRIPTION,
    )
    generate_text(run_, options.read(), how, options)
    return 0


def generate_text(run: "Run", prompt: bytes, how: "GenerateOptions", which: ModelOptions) -> None:
    """Stream what the run's task makes of the prompt to standard output."""
    model, _, _ = load(run, which)
    pieces = run.config.generate(model, prompt, how, which.cache_dir.expanduser(), run.corpus_directory)
    stream_utf8(_lines(pieces), sys.stdout)


def _continue_hf(arguments: Sequence[str]) -> None:
    from reformer.generation import Stopping
    from reformer.tasks.language_model import ContinueOptions, continuation

    options, how = parse_beside(
        FolderOptions(), ContinueOptions(), arguments, prog="reformer generate", description=DESCRIPTION
    )
    if options.hf is None:
        raise UsageError("give either the folder of a run or --hf with a folder; see reformer generate --help")
    prompt = options.read()
    model, codec = open_hf(options.hf.expanduser())
    ids = codec.encode(prompt)
    stopping = Stopping(how.stop_strings, codec.to_bytes)
    tokens = continuation(model, ids, how, len(ids) + how.n_bytes, stopping)
    stream_utf8(_lines(itertools.chain([prompt], map(codec.to_bytes, tokens))), sys.stdout)


def open_hf(path: Path) -> "tuple[ReformerLM, Codec]":
    """(model in evaluation mode, how its ids are read); a transformers Reformer is converted on the way.

    Raises ConversionError (a ValueError) for anything else.
    """
    from reformer.conversion import ConversionError, make_codec, read_json, read_transformers_folder, text_format

    kind = read_json(path / "config.json").get("model_type")
    if kind == "reformer":
        converted = read_transformers_folder(path)
        return converted.model(), make_codec(converted.text)
    if kind != "reformer-torch":
        raise ConversionError(
            f"{path} is no Reformer: expected model_type 'reformer-torch' or 'reformer', got {kind!r}"
        )
    model = _from_our_folder(path)
    return model, make_codec(text_format(path, model.config.vocab_size))


def _from_our_folder(path: Path) -> "ReformerLM":
    from reformer.hf import ReformerTorchConfig, ReformerTorchForCausalLM
    from reformer.models import ReformerLM

    config = ReformerTorchConfig.from_pretrained(path).to_reformer()
    wrapped = ReformerTorchForCausalLM.from_pretrained(path)
    head = {f"head.{name}": weight for name, weight in wrapped.lm_head.state_dict().items()}
    model = ReformerLM(config).to(wrapped.dtype)
    model.load_state_dict({**wrapped.reformer.trunk.state_dict(), **head})
    return model.eval()


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
