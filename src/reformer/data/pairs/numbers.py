"""Pairs that need no data: numbers in English and in German words, which put the units before the tens."""

from collections.abc import Iterator

from reformer.data.randomness import PAIRS, below, random_rows

_ENGLISH, _GERMAN, _ENGLISH_TENS, _GERMAN_TENS = (
    words.split()
    for words in (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen",
        "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
        "achtzehn neunzehn",
        "- - twenty thirty forty fifty sixty seventy eighty ninety",
        "- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
    )
)
N_PAIRS = {"train": 4000, "validation": 200, "test": 200}
RULE = "numbers from 0 to 999,999 in words, drawn once each; the first are train, then validation, then test"


def number_pairs() -> dict[str, list[tuple[str, list[tuple[str, str]]]]]:
    """The one set of each split, (name, pairs), the same always; no number comes twice."""
    total = sum(N_PAIRS.values())
    drawn = below(random_rows(PAIRS, 0, 0, 0, 1, 2 * total)[0], 1_000_000)
    numbers = list(dict.fromkeys(drawn.tolist()))[:total]
    pairs: Iterator[tuple[str, str]] = ((english(n), german(n)) for n in numbers)
    return {split: [("numbers", [next(pairs) for _ in range(size)])] for split, size in N_PAIRS.items()}


def english(n: int) -> str:
    """321 → "three hundred twenty-one"; below a million."""
    if n >= 1000:
        return f"{english(n // 1000)} thousand" + (f" {english(n % 1000)}" if n % 1000 else "")
    if n >= 100:
        return f"{_ENGLISH[n // 100]} hundred" + (f" {english(n % 100)}" if n % 100 else "")
    if n >= 20:
        return _ENGLISH_TENS[n // 10] + (f"-{_ENGLISH[n % 10]}" if n % 10 else "")
    return _ENGLISH[n]


def german(n: int) -> str:
    """321 → "dreihundert einundzwanzig"; below a million, with spaces between the parts, as no orthography has them."""
    if n >= 1000:
        return f"{german(n // 1000)} tausend" + (f" {german(n % 1000)}" if n % 1000 else "")
    if n >= 100:
        return f"{_GERMAN[n // 100]}hundert" + (f" {german(n % 100)}" if n % 100 else "")
    if n >= 20:
        return (f"{_GERMAN[n % 10]}und" if n % 10 else "") + _GERMAN_TENS[n // 10]
    return _GERMAN[n]
