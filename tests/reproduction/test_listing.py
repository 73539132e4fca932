"""What ``reformer reproduce --list`` says of an experiment."""

from tests.reproduction.test_report import row

from reproduction.experiments.registry import NAMES, experiment
from reproduction.report.section import listing


def test_the_papers_number_stands_beside_ours_with_where_and_when():
    rows = [row("lsh-4", seed, **{"lsh-1": 98.0 + seed}) for seed in (0, 1)] + [row("full", 0, full=100.0)]
    head, laptop, gpu, paper = listing(experiment("table2"), rows)
    assert head.startswith("table2: Table 2: accuracy")
    assert laptop == (
        "    laptop: lsh-4, lsh-1: paper 91.9, ours 98.50 ± 0.71 (seeds: 2, A CPU, 2 threads, 01:00 a seed, 2026-01-02); "
        "2 of 5 lines run"
    )
    assert gpu == "    gpu: lsh-4, lsh-1: paper 91.9, ours not run"
    assert paper.startswith("    paper: lsh-4, lsh-1: paper 91.9, ours not run")


def test_every_headline_is_a_line_and_column_of_its_experiment():
    for name in NAMES:
        each = experiment(name)
        if each.headline is not None:
            line, column = each.headline
            assert column in each.columns
            assert line in {case.row for scale in each.seeds for case in each.cases(scale, 0)}
