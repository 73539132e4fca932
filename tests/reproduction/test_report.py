import functools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reproduction.experiments.experiment import short_id
from reproduction.experiments.lines import Cell
from reproduction.experiments.registry import NAMES, experiment
from reproduction.report.document import draw_curves, write_report
from reproduction.report.section import lines, read_results, section

ROOT = Path(__file__).parents[2]


@functools.cache
def current_ids(name, scale):
    return {case.row: short_id(case.config) for case in experiment(name).cases(scale, 0)}


def row(line, seed, config_id=None, scale="laptop", name="table2", **columns):
    config_id = config_id or current_ids(name, scale)[line]
    return {
        "experiment": name, "scale": scale, "row": line, "seed": seed, "config_id": config_id, "columns": columns,
        "cost": {"seconds": 60.0 + seed, "steps": 10, "peak_memory_bytes": 2**30}, "curve": [[1, 2.0 + seed], [2, 1.5]],
        "protocol": "p", "date": f"2026-01-0{seed + 1}T00:00:00+00:00", "command": "reformer reproduce x",
        "code": {"commit": "0123456789abcdef", "dirty": False, "version": "0"},
        "hardware": {"cpu": "A CPU", "gpus": [], "torch_threads": 2}, "software": {},
    }  # fmt: skip


def test_cells_are_the_mean_and_the_sample_deviation():
    assert Cell((99.0, 100.0)).text(2) == "99.50 ± 0.71"
    assert Cell((99.25,)).text(1) == "99.2"


def test_only_the_experiments_own_config_counts_and_the_newest_row_of_each_seed():
    table2 = experiment("table2")
    rows = [
        row("lsh-4", 0, full=3.0),
        row("lsh-4", 0, full=4.0),
        row("lsh-4", 0, "of another config", full=1.0),
        row("lsh-4", 1, "of another config", full=2.0),
        row("full", 0, full=5.0),
        row("full", 1, scale="smoke", full=6.0),
        row("full", 1, "a", name="scale", full=7.0),
        row("a line that is no more", 0, "a", full=8.0),
    ]
    found = lines(table2, rows, "laptop")
    assert list(found) == ["full", "lsh-4"]
    assert found["lsh-4"].cell("full").values == (4.0,)
    assert found["full"].cell("full").values == (5.0,)
    assert found["full"].cell("lsh-1") is None


def test_a_table_shows_the_papers_number_ours_and_what_was_not_run():
    rows = [row("lsh-4", seed, **{"full": 99.0 + seed, "lsh-8": 98.0}) for seed in (0, 1)]
    text = section(experiment("table2"), rows, [])
    line = next(line for line in text.splitlines() if line.startswith("| lsh-4 | 0.8"))
    assert line == (
        "| lsh-4 | 0.8 \\| **99.50 ± 0.71** | 100 \\| **98.00 ± 0.00** | 99.9 \\| **not run** | 99.4 \\| **not run** "
        "| 91.9 \\| **not run** | – \\| **not run** | – \\| **not run** |"
    )
    assert "| lsh-4 | 2 | 10 |" in text
    assert (
        "2026-01-01 to 2026-01-02 | 0123456789 | `reformer reproduce table2 --scale laptop --seeds 2 --rows lsh-4` |"
        in text
    )
    assert "table2, gpu: not run" in text
    assert "table2, laptop: not run" not in text


def test_a_cell_that_a_line_cannot_fill_is_a_dash_and_columns_of_other_scales_are_not_shown():
    rows = [row("enwik8, shared QK, ordinary", 0, name="figure3", **{"enwik8, bits per byte": 2.5})]
    grid = section(experiment("figure3"), rows, []).splitlines()
    assert "| enwik8, shared QK, ordinary | 2.500 | – |" in grid
    assert "| images, shared QK, ordinary | – | not run |" in grid
    recall = section(experiment("recall"), [row("text: local only", 0, name="recall", **{"to 128": 30.0})], [])
    assert "|  | to 128 | to 512 | to 2,048 |" in recall
    assert "| text: local only | 30.00 | not run | not run |" in recall


def test_curves_in_other_units_have_axes_of_their_own(tmp_path):
    rows = [
        row("enwik8, shared QK, ordinary", 0, name="figure3", **{"enwik8, bits per byte": 2.5}),
        row("images, shared QK, ordinary", 0, name="figure3", **{"images, bits per dim": 6.5}),
    ]
    figure3 = experiment("figure3")
    both, one = tmp_path / "both.svg", tmp_path / "one.svg"
    assert draw_curves(figure3, "laptop", lines(figure3, rows, "laptop"), both)
    assert draw_curves(figure3, "laptop", lines(figure3, rows[:1], "laptop"), one)
    assert not draw_curves(figure3, "laptop", {}, tmp_path / "none.svg")
    assert [path.read_text().count('<g id="axes_') for path in (both, one)] == [2, 1]


def test_rows_that_lack_a_field_are_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"experiment": "table2", "scale": "laptop"}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl: a row of experiment 'table2': it has no row"):
        write_report(tmp_path, tmp_path / "docs/results.md")


def test_a_value_that_is_no_number_is_shown_as_such():
    rows = [row("lsh-4", 0, full=math.nan), row("lsh-4", 1, full=99.0)]
    assert "**nan ± nan**" in section(experiment("table2"), rows, [])


def test_drawings_of_rows_that_are_gone_go_too(tmp_path):
    rows, document = tmp_path / "figure4.jsonl", tmp_path / "docs/results.md"
    rows.write_text(json.dumps(row("8 rounds", 0, name="figure4", validation=6.5)) + "\n")
    assert tmp_path / "docs/results/figure4-laptop.svg" in write_report(tmp_path, document)
    rows.unlink()
    write_report(tmp_path, document)
    assert not (tmp_path / "docs/results/figure4-laptop.svg").exists()


def test_how_it_was_measured_is_said_once_or_for_each_line():
    rows = [row("full", 0, full=99.0), row("lsh-4", 0, full=99.0)]
    assert "Measured: p." in section(experiment("table2"), rows, [])
    rows[1]["protocol"] = "q"
    assert "Measured:\n\n- full: p.\n- lsh-4: q." in section(experiment("table2"), rows, [])


def test_times_of_two_machines_are_not_mixed():
    rows = [row("lsh-4", seed, full=99.0) for seed in range(3)]
    rows[2]["hardware"] = {"cpu": "Another", "gpus": [], "torch_threads": 1}
    text = section(experiment("table2"), rows, [])
    assert "| lsh-4 | 3 | 10 | 01:00; 01:02 | 1.0 GiB | A CPU, 2 threads; Another, 1 thread | 2026-01-01 to" in text


def test_the_command_of_a_line_whose_name_has_spaces_can_be_typed_as_it_stands():
    text = section(experiment("table2"), [row("lsh-4, Adafactor", 2, full=1.0)], [])
    assert "`reformer reproduce table2 --scale laptop --seeds 3 --rows 'lsh-4, Adafactor'`" in text


def said(name, *rows):
    each = experiment(name)
    return each.finding(lines(each, rows, "laptop"))


def test_the_first_page_says_whether_local_layers_alone_did_better(tmp_path):
    for local, winner, less in (
        (1.5, "local only does better", "+0.500"),
        (2.5, "LSH and local layers do better", "-0.500"),
    ):
        values = {"lsh + local": 2.0, "local only": local}
        rows = [row(line, seed, name="baselines", test=value) for line, value in values.items() for seed in (0, 1)]
        (tmp_path / "baselines.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
        text = write_report(tmp_path, tmp_path / "docs/results.md")[0].read_text()
        first_page = text.split("\n## ")[1]
        assert f"- `baselines`, laptop: **{winner}**: LSH and local layers less local only is {less} bits" in first_page
        assert "not a test of significance" in text.split("\n## ")[0]


def test_differences_are_measured_by_the_seed_to_seed_spread():
    base = "enwik8, shared QK, reversible"
    column = "enwik8, bits per byte"
    values = {
        base: (2.0, 2.2),
        "enwik8, shared QK, ordinary": (2.1, 2.2),
        "enwik8, separate QK, reversible": (2.9, 3.1),
    }
    rows = [
        row(line, seed, name="figure3", **{column: each}) for line in values for seed, each in enumerate(values[line])
    ]
    # Variances 0.02 and 0.005, of mean 0.0125; 0.02 and 0.02.
    assert said("figure3", *rows) == [
        "enwik8, bits per byte: separate QK, reversible less shared QK, reversible is +0.900 "
        "(beyond the seed-to-seed spread of 0.141; seed by seed +0.900, +0.900).",
        "enwik8, bits per byte: shared QK, ordinary less shared QK, reversible is +0.050 "
        "(within the seed-to-seed spread of 0.112; seed by seed +0.100, +0.000).",
    ]


def test_rounds_are_compared_with_full_attention_in_percent():
    rows = [
        row(line, 0, name="figure4", validation=value) for line, value in (("full attention", 5.0), ("8 rounds", 5.05))
    ]
    beside = "bits per dim beside full attention's of the same seed"
    assert said("figure4", *rows) == [f"{beside}: 8 rounds +1.00% (one seed)."]
    # A seed that full attention has alone does not count.
    rows += [row("full attention", 1, name="figure4", validation=7.0)]
    assert said("figure4", *rows) == [f"{beside}: 8 rounds +1.00% (one seed)."]
    rows += [row("8 rounds", 1, name="figure4", validation=7.14)]
    assert said("figure4", *rows) == [f"{beside}: 8 rounds +1.50% (seed by seed +1.00, +2.00)."]
    assert said("figure4", rows[1]) == []


def test_cells_below_the_papers_are_named():
    rows = [row("lsh-4", seed, **{"full": 100.0, "lsh-2": 99.4, "lsh-1": 91.0 + seed}) for seed in (0, 1)]
    assert said("table2", *rows, row("lsh-2", 0, **{"lsh-8": 99.96})) == [
        "the means of 2 of 3 cells, rounded as the paper's, are at or above those; below: lsh-4 under lsh-1 91.50 (91.9).",
        "Trained with LSH, evaluated under full attention: lsh-4 100.00, where the paper has 0.8.",
    ]
    usual = row("lsh-4", 0, **{"full": 100.0, "full, usual": 1.5})
    assert said("table2", usual) == [
        "Trained with LSH, evaluated under full attention: lsh-4 100.00, where the paper has 0.8; under the usual full attention, "
        "which is another function: lsh-4 1.50."
    ]
    authors = row("lsh-4, Adafactor", 0, **{"full": 100.0, "lsh-4": 99.86, "lsh-2": 99.3})
    assert said("table2", authors) == [
        "With the authors' optimizer (one seed): below the paper: lsh-4, Adafactor under lsh-2 99.30 (99.4)."
    ]


def test_curves_of_one_panel_can_be_told_apart(tmp_path):
    """figure3 draws nine on text, more than there are colours."""
    figure3, column = experiment("figure3"), "enwik8, bits per byte"
    names = [case.row for case in figure3.cases("laptop", 0) if case.columns == (column,)]
    rows = [row(name, 0, name="figure3", **{column: 2.0}) | {"curve": [[1, 2.0], [2, 1.0]]} for name in names]
    draw_curves(figure3, "laptop", lines(figure3, rows, "laptop"), tmp_path / "drawing.svg")
    drawing = (tmp_path / "drawing.svg").read_text()
    legend = drawing[drawing.index('id="legend_1"') :]
    looks = re.findall(
        r'<path d="[^"]*" style="fill: none; (stroke-dasharray[^;]*; )?[^"]*stroke: (#[0-9a-f]{6})', legend
    )
    assert len(looks) == len(names) > 8
    assert len(set(looks)) == len(looks)


def test_means_over_unequal_seeds_are_told_of():
    rows = [row(line, 0, name="figure4", validation=5.0) for line in ("full attention", "8 rounds")]
    warning = "Lines have 1 to 2 seeds, and each mean and curve is over its own"
    assert warning not in section(experiment("figure4"), rows, [])
    rows.append(row("8 rounds", 1, name="figure4", validation=5.0))
    assert warning in section(experiment("figure4"), rows, [])
    # As many, but not the same.
    rows[0] |= {"seed": 2}
    rows.pop()
    assert "Lines have one seed, and each mean" in section(experiment("figure4"), rows, [])


def test_lines_are_compared_over_the_seeds_that_both_have():
    rows = [row("lsh + local", seed, name="baselines", test=2.0 + seed) for seed in (0, 1)]
    assert said("baselines", *rows, row("local only", 0, name="baselines", test=1.5)) == [
        "one seed, local only does better: LSH and local layers less local only is +0.500 bits per byte "
        "(one seed: no spread to compare with)."
    ]
    assert said("baselines", rows[1], row("local only", 0, name="baselines", test=1.5)) == []


def test_what_a_removal_costs_and_what_is_found_at_the_greatest_distance():
    ablated = row("lsh + local", 0, name="ablate-lsh", **{"as trained": 2.0, "LSH zeroed": 2.5, "LSH made full": 1.9})
    assert said("ablate-lsh", ablated) == [
        "bits per byte beside the model as trained (one seed): LSH zeroed +0.500, LSH made full -0.100."
    ]
    rows = [
        row(f"noise: {kind}", seed, name="recall", **{"to 128": 1.0, "to 2,048": value + seed})
        for kind, value in (("local + LSH-4", 90.0), ("local only", 1.5))
        for seed in (0, 1)
    ]
    assert said("recall", *rows) == [
        "in noise, distances to 2,048 tokens, % found (2 seeds): local + LSH-4 90.5 ± 0.7, local only 2.0 ± 0.7.",
    ]


def test_translations_by_beam_search_stand_beside_greedy_ones():
    values = {"cased": 5.0, "greedy": 4.5, "shuffled": 0.5}
    assert said(
        "table4", row("reversible", 0, name="table4", **values), row("ordinary", 0, name="table4", cased=5.25)
    ) == [
        "BLEU of reversible less ordinary layers is -0.25 (one seed: no spread to compare with).",
        "reversible, BLEU (one seed): cased 5.00, greedy 4.50, shuffled 0.50.",
        "ordinary, BLEU (one seed): cased 5.25.",
    ]


class References(HTMLParser):
    def __init__(self):
        super().__init__()
        self.fetched, self.pictures = [], 0

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "src" or (name == "href" and tag != "a"):
                self.pictures += value.startswith("data:image/")
                if not value.startswith("data:"):
                    self.fetched.append(value)


def test_the_page_holds_its_pictures_and_fetches_nothing(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    rows = [row("lsh + local", seed, name="baselines", test=2.0) for seed in (0, 1)]
    (results / "baselines.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    document, page, *drawn = write_report(results, tmp_path / "docs/results.md")
    assert [path.name for path in drawn] == ["baselines-laptop.svg"]
    assert "](results/baselines-laptop.svg)" in document.read_text()
    references = References()
    references.feed(page.read_text())
    assert references.fetched == []
    assert references.pictures == 1
    assert all(f"`{name}`" in document.read_text() for name in NAMES)


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="not in a checkout")
@pytest.mark.parametrize("name", NAMES)
def test_committed_rows_are_those_of_the_experiments_configs(name):
    # A new field of a config makes every row another config's, unless it is added to experiment._ADDED.
    rows = read_results(ROOT / "results")
    assert lines(experiment(name), rows, "laptop")


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="not in a checkout")
def test_regenerating_the_report_changes_no_word_and_draws_the_same_curves(tmp_path):
    out = tmp_path / "docs/results.md"
    document, _, *drawn = write_report(ROOT / "results", out)
    assert document.read_text() == (ROOT / "docs/results.md").read_text(), "run reformer report"
    assert {path.name for path in drawn} == {path.name for path in (ROOT / "docs/results").glob("*")}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"hardware": {}}, "hardware must be an object with cpu"),
        ({"code": None}, "code must be an object with commit"),
        ({"date": 20260101}, "date must be a text"),
        ({"seed": "1"}, "seed must be a whole number"),
        ({"curve": [[1]]}, "curve must be null or a list of pairs"),
        ({"columns": {"full": None}}, "columns must be an object of finite numbers"),
        ({"columns": {"full": math.nan}}, "columns must be an object of finite numbers"),
        ({"experiment": "tabel2"}, "'tabel2', which is none of table1-3, table2"),
    ],
)
def test_a_damaged_row_is_named_with_what_is_wrong(tmp_path, damage, said):
    (tmp_path / "table2.jsonl").write_text(json.dumps(row("full", 0, full=1.0) | damage) + "\n")
    with pytest.raises(ValueError, match=said) as raised:
        read_results(tmp_path)
    assert "table2.jsonl" in str(raised.value)


def test_a_missing_folder_is_no_empty_one(tmp_path):
    with pytest.raises(ValueError, match="no folder of results"):
        read_results(tmp_path / "nowhere")


def test_seeds_measured_on_different_data_are_not_averaged():
    rows = [row("full", seed, full=1.0) | {"checksums": {"train": sha}} for seed, sha in ((0, "a"), (1, "b"))]
    with pytest.raises(ValueError, match="table2, laptop, full: its seeds were measured on different data"):
        lines(experiment("table2"), rows, "laptop")
    unknown = [rows[0], rows[1] | {"checksums": None}]
    assert len(lines(experiment("table2"), unknown, "laptop")["full"].rows) == 2


def test_the_papers_numbers_stand_where_nothing_was_run():
    text = section(experiment("table4"), [], [])
    assert "| base, 100K steps | 26.9 \\| **not run** | 27.4 \\| **not run** |" in text


def test_a_cell_that_is_no_number_does_not_reach_the_papers():
    table2 = experiment("table2")
    rows = [row("lsh-4", 0, **{"lsh-4": 100.0, "lsh-8": math.nan})]
    (said,) = table2.finding(lines(table2, rows, "laptop"))
    assert "1 of 2 cells" in said
