"""``reformer convert FROM TO``."""

import io
import json
import pickle
from pathlib import Path

import pytest
import sentencepiece
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

import reformer.hf  # noqa: F401 - registers our classes
from reformer.cli.main import main
from reformer.hf import folders

from .helpers import converted, small_config, transformers_model, trax_tree

TEXT = "it was the best of times it was the worst of times it was the age of wisdom it was the age of foolishness"


@pytest.fixture(autouse=True)
def quiet():
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        yield
    transformers.utils.logging.enable_progress_bar()


@pytest.fixture
def byte_model():
    return transformers_model(small_config(vocab_size=258), torch.float32)


@pytest.fixture
def byte_folder(byte_model, tmp_path: Path) -> Path:
    byte_model.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def convert(capsys: pytest.CaptureFixture[str], *arguments) -> tuple[int, str, str]:
    code = main(["convert", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def assert_same_model(folder: Path, theirs) -> None:
    found, expected = AutoModelForCausalLM.from_pretrained(folder).eval(), converted(theirs)
    tokens = torch.arange(2, 30)[None]
    assert torch.equal(found(tokens).logits, expected(tokens, seed=0))


def test_a_folder_of_bytes(byte_folder: Path, byte_model, tmp_path: Path, capsys):
    code, out, _ = convert(capsys, byte_folder, tmp_path / "ours")
    assert code == 0
    assert "2 layers" in out and "text as bytes" in out and f"reformer generate --hf {tmp_path / 'ours'}" in out
    assert_same_model(tmp_path / "ours", byte_model)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert tokenizer("Az\u00e9").input_ids == [ord("A") + 2, ord("z") + 2, 0xC3 + 2, 0xA9 + 2]
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert (config["pad_token_id"], config["eos_token_id"], config["bos_token_id"]) == (0, 1, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]


def test_a_folder_with_sentencepiece(tmp_path: Path, capsys):
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 9), model_writer=written, vocab_size=40, model_type="bpe", minloglevel=2,
        bos_id=-1, pad_id=-1, eos_id=1, unk_id=0, hard_vocab_limit=False,
    )  # fmt: skip
    theirs = transformers_model(small_config(vocab_size=40), torch.float32)
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "spiece.model").write_bytes(written.getvalue())
    assert convert(capsys, tmp_path / "theirs", tmp_path / "ours")[0] == 0
    assert_same_model(tmp_path / "ours", theirs)
    assert (tmp_path / "ours" / "spiece.model").read_bytes() == written.getvalue()
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert tokenizer("the age of times").input_ids == processor.encode("the age of times")
    code, out, _ = generate(capsys, "--hf", tmp_path / "ours", "--prompt", "the age", "--n-bytes", 9)
    assert code == 0 and out.startswith("the age") and len(out) > 9
    assert generate(capsys, "--hf", tmp_path / "theirs", "--prompt", "the age", "--n-bytes", 9)[1] == out


def test_a_trax_pickle(byte_folder: Path, byte_model, tmp_path: Path, capsys):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"weights": trax_tree(byte_model)}))
    code, _, err = convert(capsys, path, tmp_path / "ours")
    assert (code, "give its config with --config" in err) == (2, True)
    assert convert(capsys, path, tmp_path / "ours", "--config", byte_folder / "config.json")[0] == 0
    assert_same_model(tmp_path / "ours", byte_model)


def test_a_bidirectional_model(tmp_path: Path, capsys):
    transformers_model(small_config(is_decoder=False), torch.float32).save_pretrained(tmp_path / "theirs")
    code, out, _ = convert(capsys, tmp_path / "theirs", tmp_path / "ours")
    assert code == 0 and "text as ids" in out
    architecture = json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"]
    assert architecture == ["ReformerTorchForMaskedLM"]


def test_a_target_that_holds_something_is_left_alone(byte_folder: Path, tmp_path: Path, capsys):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "mine").touch()
    code, _, err = convert(capsys, byte_folder, tmp_path / "ours")
    assert code == 2 and "exists and is not empty; choose another folder" in err
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["mine"]
    (tmp_path / "ours" / "mine").unlink()
    assert convert(capsys, byte_folder, tmp_path / "ours")[0] == 0


def test_an_interrupted_conversion_leaves_nothing_and_can_be_repeated(byte_folder, tmp_path, capsys, monkeypatch):
    (tmp_path / ".ours.partial").mkdir()
    (tmp_path / ".ours.partial" / "killed").touch()
    real = folders.save_converted

    def interrupted(found, folder: Path) -> None:
        real(found, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "save_converted", interrupted)
    assert convert(capsys, byte_folder, tmp_path / "ours")[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
    monkeypatch.undo()
    assert convert(capsys, byte_folder, tmp_path / "ours")[0] == 0
    assert "killed" not in {path.name for path in (tmp_path / "ours").iterdir()}


def generate(capsys: pytest.CaptureFixture[str], *arguments) -> tuple[int, str, str]:
    code = main(["generate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_generate_from_a_converted_folder_and_directly(byte_folder: Path, byte_model, tmp_path: Path, capsys):
    assert convert(capsys, byte_folder, tmp_path / "ours")[0] == 0
    options = ("--prompt", "Once", "--n-bytes", 12, "--temperature", 0)
    code, out, _ = generate(capsys, "--hf", tmp_path / "ours", *options)
    assert code == 0 and out.startswith("Once")
    assert generate(capsys, "--hf", byte_folder, *options)[1] == out
    # Greedy, after the row that the authors' models start with; ids 0 and 1 are no bytes.
    ids = [0, *(byte + 2 for byte in b"Once")]
    ours = converted(byte_model)
    state = ours.decoding_state(1, 16, 0)
    tokens, drawn = torch.tensor([ids]), []
    for _ in range(12):
        drawn.append(int(ours.decode(tokens, state, last_only=True)[0, -1].argmax()))
        tokens = torch.tensor([[drawn[-1]]])
    text = bytes(token - 2 for token in drawn if token >= 2).decode(errors="replace")
    assert out == f"Once{text}\n"


def test_generate_from_what_it_cannot_read(tmp_path: Path, byte_folder: Path, capsys):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    transformers_model(small_config(), torch.float32).save_pretrained(tmp_path / "ids")
    for arguments, said in (
        (("--hf", tmp_path / "bert"), "is no Reformer: expected model_type 'reformer-torch' or 'reformer', got 'bert'"),
        (("--hf", tmp_path / "nowhere"), "holds no model: config.json is missing"),
        (("--hf", tmp_path / "ids"), "put its tokenizer's spiece.model beside config.json"),
        (("--hf", byte_folder, "--n-bytes", 100), "exceed the model's longest input, 48"),
        ((byte_folder, "--hf", byte_folder), "give either the folder of a run or --hf"),
        ((), "give either the folder of a run or --hf"),
    ):
        code, _, err = generate(capsys, *arguments)
        assert code == 2 and said in err and err.count("\n") == 1


def test_what_is_no_reformer(byte_folder: Path, tmp_path: Path, capsys):
    for arguments, said in (
        ((tmp_path / "nowhere", tmp_path / "ours"), "does not exist"),
        ((tmp_path, tmp_path / "ours"), "holds no model: config.json is missing"),
        ((byte_folder, tmp_path / "ours", "--config", byte_folder / "config.json"), "--config is for trax pickles"),
    ):
        code, _, err = convert(capsys, *arguments)
        assert code == 2 and said in err and err.count("\n") == 1
        assert not (tmp_path / "ours").exists()
