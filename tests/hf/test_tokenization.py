import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.helpers import refuses
from transformers import AutoTokenizer

from reformer.hf import ReformerByteTokenizer

KINDS = {"causal": {}, "masked": {"masked": True}, "offset 2": {"offset": 2}}
TEXTS = [
    "",
    " ",
    "plain",
    "  spaces, \n\ttabs and\r\n line ends ",
    "naïve café",
    "日本語 😀",
    "<s> <pad> </s> [MASK]",
    "don 't , .",
]


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(options, text):
    tokenizer = ReformerByteTokenizer(**options)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text or options.get("masked")
    if "<" not in text:
        assert ids == [byte + tokenizer.offset for byte in text.encode()]


@given(st.text())
def test_any_text_comes_back(text):
    tokenizer = ReformerByteTokenizer()
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


@given(st.binary())
def test_any_bytes_decode_as_python_replaces(data):
    for offset in (0, 2):
        tokenizer = ReformerByteTokenizer(offset=offset)
        assert tokenizer.decode([byte + offset for byte in data]) == data.decode("utf-8", errors="replace")


def test_special_tokens():
    causal = ReformerByteTokenizer()
    assert (causal.bos_token_id, causal.pad_token_id, causal.mask_token_id, causal.eos_token_id) == (
        256,
        257,
        None,
        None,
    )
    assert causal("a<s>")["input_ids"] == [256, 97, 60, 115, 62]
    assert causal("ab", "c")["input_ids"] == [256, 97, 98, 256, 99]
    masked = ReformerByteTokenizer(masked=True)
    assert (masked.bos_token_id, masked.pad_token_id, masked.mask_token_id) == (None, 256, 257)
    assert masked("a<mask>é")["input_ids"] == [97, 257, 195, 169]
    released = ReformerByteTokenizer(offset=2)
    assert (released.pad_token_id, released.eos_token_id, released.bos_token_id) == (0, 1, None)
    assert released("az")["input_ids"] == [99, 124]
    for tokenizer in (causal, masked, released):
        assert len(tokenizer) == tokenizer.vocab_size == 258
        assert sorted(tokenizer.get_vocab().values()) == list(range(258))
        assert tokenizer.decode([tokenizer.pad_token_id, 100], skip_special_tokens=True) == chr(100 - tokenizer.offset)
    assert causal.decode([256, 97, 257]) == "<s>a<pad>"
    with refuses(ValueError, "offset must be 0", "or 2", "got 1"):
        ReformerByteTokenizer(offset=1)


def test_padding_goes_where_the_model_wants_it():
    batch = ReformerByteTokenizer()(["a", "abc"], padding=True)
    assert batch["input_ids"] == [[257, 257, 256, 97], [256, 97, 98, 99]]
    assert batch["attention_mask"] == [[0, 0, 1, 1], [1, 1, 1, 1]]
    batch = ReformerByteTokenizer(masked=True)(["a", "abc"], padding=True)
    assert batch["input_ids"] == [[97, 256, 256], [97, 98, 99]]
    assert batch["attention_mask"] == [[1, 0, 0], [1, 1, 1]]
    assert "token_type_ids" not in batch


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_saved_tokenizer_is_the_same_one(options, tmp_path):
    tokenizer = ReformerByteTokenizer(**options, model_max_length=77)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is ReformerByteTokenizer
    assert again.model_max_length == 77
    assert again.get_vocab() == tokenizer.get_vocab()
    for text in TEXTS:
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again(["a", "abc"], padding=True)["input_ids"] == tokenizer(["a", "abc"], padding=True)["input_ids"]
