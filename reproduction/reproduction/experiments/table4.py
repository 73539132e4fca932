"""Table 4: reversible encoder-decoder models, English to German.

    reformer reproduce table4 --scale laptop

The paper trains on WMT14 and reports newstest2014: 26.9 sacreBLEU cased (27.4 uncased) for the base model after 100,000
steps with shared weights, 27.4 (27.9) after 500,000 without, 28.4 (28.9) for the big model. The laptop scale asks whether
reversible layers cost quality, at its own size: the same model, seeds and batches with and without them, and a decoder that
reads source and target as one sequence by LSH attention, as the authors did later. It needs pairs called "ende" in the cache
(docs/translation.md); its BLEU on newstest2014 is low, for its pairs are few and of other kinds of text. "shuffled": the
control whose sources are shuffled. "by heart": the reversible model learns 1,000 training pairs, and translates these very
pairs.
Hardware and time for each line and seed. smoke: any CPU, seconds. laptop: two CPU cores, two lines at a time on one thread each,
5 (by heart) and 23 to 31 minutes. gpu: one accelerator, slices under ten minutes that resume; not timed. paper: 8 accelerators
in the paper; ``--estimate`` says what it takes here.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from reformer.tasks.protocol import Evaluated
from reformer.tasks.registry import recipe
from reformer.tasks.translation import BeamOptions, TranslationConfig, bleu_rows
from reproduction.case import Case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line, difference, seeds_of
from reproduction.experiments.training_case import Measure, training_case

_ENDE = "ende"
_TEST, _IN_DOMAIN = ("cased", "uncased", "greedy", "shuffled"), ("in-domain", "in-domain, shuffled")
_LEARNT = "the pairs it learnt"
# Pairs of each test set that are translated.
_TEST_PAIRS = {"smoke": 4, "laptop": 1000, "gpu": 100_000, "paper": 100_000}
_BY_HEART = "1,000 pairs by heart"
_SMALL = {
    "reversible": "translation-small",
    "ordinary": "translation-small-ordinary",
    "packed, LSH attention": "translation-packed",
}
_PAPERS = {
    "base, 100K steps": "wmt14-base-reversible",
    "base, 500K steps, no weight sharing": "wmt14-base-reversible-500k",
    "big, 300K steps, no weight sharing": "wmt14-big-reversible",
}
_WITH_CHECK = {**_SMALL, _BY_HEART: "translation-overfit"}
_RECIPES = {"smoke": _WITH_CHECK, "laptop": _WITH_CHECK, "gpu": _SMALL, "paper": _PAPERS}


def cases(scale: str, seed: int) -> list[Case]:
    """One training for each line."""
    pairs, extra_tokens = _TEST_PAIRS[scale], 5 if scale == "smoke" else 50
    found = []
    for row, name in _RECIPES[scale].items():
        config = recipe(name)
        assert isinstance(config, TranslationConfig)
        config = replace(_AT_SCALE[scale](config), name=f"{name}-{scale}", seed=seed)
        # Only the small scales' folder has a second test set.
        columns: tuple[str, ...] = _TEST + _IN_DOMAIN if config.data == _ENDE else _TEST
        measure, measured = _measure(pairs, extra_tokens), {"pairs of a test set": pairs}
        if row == _BY_HEART:
            measure, measured, columns = _measure_by_heart(pairs, extra_tokens), {"training pairs": pairs}, (_LEARNT,)
        found.append(training_case(row, config, measure, measured=measured, columns=columns))
    return found


def _smoke(config: TranslationConfig) -> TranslationConfig:
    model: Any = replace(
        config.model, vocab_size=300, d_model=16, d_ff=16, n_heads=2, attention=config.model.attention[:2]
    )
    return replace(config, data="numbers", batch_tokens=256, steps=3, eval_every=3, eval_bytes=200, model=model)


def _laptop(config: TranslationConfig) -> TranslationConfig:
    return replace(config, data=_ENDE)


def _gpu(config: TranslationConfig) -> TranslationConfig:
    model: Any = replace(config.model, vocab_size=16_384, d_model=512, d_ff=2048, n_heads=8)
    optimizer = replace(config.optimizer, lr=7e-4, warmup_steps=1000)
    return replace(
        _laptop(config), batch_tokens=16_384, steps=10_000, autocast="bfloat16", optimizer=optimizer, model=model
    )


_AT_SCALE: dict[str, Callable[[TranslationConfig], TranslationConfig]] = {
    "smoke": _smoke,
    "laptop": _laptop,
    "gpu": _gpu,
    "paper": lambda config: config,
}


def _measure(pairs: int, extra_tokens: int) -> Measure:
    """Columns of newstest2014, or of the only test set; those of any other set bear its name."""

    def measure(model: Any, task: Any) -> tuple[dict[str, float], str]:
        columns: dict[str, float] = {}
        protocols = []
        for beams in (1, 4):
            options = BeamOptions(num_beams=beams, extra_tokens=extra_tokens)
            for found in bleu_rows(task.pairs, model, "test", options, limit=pairs):
                name = _column(found, len(task.pairs.sets("test")))
                if name is not None:
                    columns[name] = found.measurement.value
                protocols += [found.measurement.protocol, found.measurement.extras["signature"]]
        return columns, f"best of beam 4, alpha 0.6; {'; '.join(dict.fromkeys(protocols))}"

    return measure


def _measure_by_heart(pairs: int, extra_tokens: int) -> Measure:
    def measure(model: Any, task: Any) -> tuple[dict[str, float], str]:
        options, learnt = BeamOptions(extra_tokens=extra_tokens), task.config.train_pairs
        first = next(bleu_rows(task.pairs, model, "train", options, limit=pairs, train_pairs=learnt)).measurement
        protocol = f"{first.metric}, beam 4, alpha 0.6; {first.protocol}; {first.extras['signature']}"
        return {_LEARNT: first.value}, protocol

    return measure


# The column of a translation of newstest2014, and of another set: (greedy, sources shuffled, cased).
_COLUMNS = {
    (False, False, True): "cased",
    (False, False, False): "uncased",
    (True, False, True): "greedy",
    (False, True, True): "shuffled",
}
_IN_DOMAIN_COLUMNS = {(False, False, True): "in-domain", (False, True, True): "in-domain, shuffled"}


def _column(found: Evaluated, n_sets: int) -> str | None:
    """The column that a row of ``bleu_rows`` belongs to."""
    name, how = found.split.partition("/")[2], found.variant
    what = how.startswith("greedy"), how.endswith("shuffled"), found.measurement.metric == "BLEU cased"
    if n_sets == 1 or "newstest2014" in name:
        return _COLUMNS.get(what)
    return _IN_DOMAIN_COLUMNS.get(what) if "multi30k" in name else None


def finding(lines: Mapping[str, Line]) -> list[str]:
    """Whether reversible layers cost quality, beam search pays, and the source is read at all."""
    compared = difference(lines, "reversible", "ordinary", "cased")
    found = []
    if compared is not None:
        found.append(f"BLEU of reversible less ordinary layers is {compared.value:+.2f} ({compared.verdict}).")
    for name, line in lines.items():
        cells = {column: line.cell(column) for column in (*_TEST, *_IN_DOMAIN)}
        values = ", ".join(f"{column} {cell.text(2)}" for column, cell in cells.items() if cell is not None)
        if values:
            found.append(f"{name}, BLEU ({seeds_of([line])}): {values}.")
    learnt = lines[_BY_HEART].cell(_LEARNT) if _BY_HEART in lines else None
    if learnt is not None:
        found.append(f"{_BY_HEART}: BLEU {learnt.mean:.2f} on them.")
    return found


EXPERIMENT = Experiment(
    name="table4",
    title="Table 4: reversible encoder-decoder, English to German, sacreBLEU on newstest2014",
    metric="sacreBLEU on newstest2014; in-domain: on Multi30k's test set",
    better="higher",
    columns=(*_TEST, *_IN_DOMAIN, _LEARNT),
    cases=cases,
    seeds={"smoke": 1, "laptop": 2, "gpu": 3, "paper": 1},
    paper={
        ("base, 100K steps", "cased"): 26.9,
        ("base, 100K steps", "uncased"): 27.4,
        ("base, 500K steps, no weight sharing", "cased"): 27.4,
        ("base, 500K steps, no weight sharing", "uncased"): 27.9,
        ("big, 300K steps, no weight sharing", "cased"): 28.4,
        ("big, 300K steps, no weight sharing", "uncased"): 28.9,
    },
    notes={
        "smoke": "numbers in words, a model of 16 units, 3 steps: shows that everything runs, nothing else",
        "laptop": "227,000 pairs of Tatoeba, Multi30k and other newstests, 3 + 3 layers of d_model 128, 1,500 steps of at most "
        "2,048 tokens, the first 1,000 pairs of each test set; the paper: 4.5 million pairs of WMT14, 6 + 6 layers of 512 "
        "(its column BLEU, and the rows of others, are not computed here: sacreBLEU only)",
        "gpu": "the same pairs, 3 + 3 layers of d_model 512, 10,000 steps of at most 16,384 tokens",
        "paper": "WMT14 pairs called wmt14 in the cache, 100,000 to 500,000 steps of 24,576 tokens; newstest2014 whole",
    },
    curve=("step", "validation bits per byte"),
    finding=finding,
)
