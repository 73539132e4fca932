"""Stop strings are found wherever token borders are, and never in what a text did not hold."""

import itertools

import pytest

from reformer.generation import Stopping

PIECES = (b"", b"a", b"b", b"ab", b"aab", b"ba")


@pytest.mark.parametrize("strings", [(b"a",), (b"ab",), (b"aba", b"bb"), (b"aabaab",), (b"b", b"aaaa")])
def test_a_text_is_over_with_the_first_token_that_completes_a_string(strings):
    stopping = Stopping(strings, PIECES.__getitem__)
    for tokens in itertools.product(range(len(PIECES)), repeat=4):
        tail, text = b"", b""
        for token in tokens:
            text += PIECES[token]
            tail, over = stopping.follow(tail, token)
            assert over == any(string in text for string in strings), (tokens, text)
            if over:
                break


def test_without_strings_no_text_is_ever_over():
    assert Stopping().follow(b"", 97) == (b"", False)


def test_an_empty_string_is_refused():
    with pytest.raises(ValueError, match="at least one byte"):
        Stopping((b"a", b""))
