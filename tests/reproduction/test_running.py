import errno
import json
import math
from dataclasses import replace

import pytest

from reformer.training.loop import TrainingDiverged
from reformer.training.run_directory import RunError, only_writer
from reproduction.case import Case, NotRun, Place, Stopped
from reproduction.experiments import training_case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.registry import experiment
from reproduction.experiments.running import LinesNotRun, run_experiment
from reproduction.experiments.training_case import set_aside
from reproduction.report.section import commit_of
from reproduction.rows import read_rows


class Counting:
    """An experiment of two lines whose values are (line, seed), and a record of what ran."""

    def __init__(self, version=1, stop_at=None):
        self.ran, self.version, self.stop_at = [], version, stop_at
        self.experiment = Experiment(
            name="counting",
            title="Counting",
            metric="number",
            better="",
            columns=("a", "b"),
            cases=self.cases,
            seeds={"laptop": 2},
            notes={"laptop": "all of it"},
        )

    def cases(self, scale, seed):
        return [self.case(row, seed) for row in ("one", "two")]

    def case(self, row, seed):
        def run(place):
            if (row, seed) == self.stop_at:
                raise Stopped("stopped by SIGTERM")
            self.ran.append((row, seed))
            yield {"columns": {"a": len(row), "b": seed}, "cost": {"seconds": 1.0}, "protocol": "counted"}

        return Case(row=row, seed=seed, config={"version": self.version, "row": row}, run=run)


def run(counting, folder, seeds=2, rows=(), resume=True, notice=lambda line: None, results=None):
    place = Place(work=folder, cache_dir=folder, command=["reformer"], resume=resume)
    results = results or folder / "results"
    return run_experiment(counting.experiment, "laptop", range(seeds), place, results=results, rows=rows, notice=notice)


ALL = [("one", 0), ("two", 0), ("one", 1), ("two", 1)]


def test_every_case_is_recorded_with_what_it_takes_to_repeat_it(tmp_path):
    rows = run(Counting(), tmp_path)
    assert rows == read_rows(tmp_path / "results/counting.jsonl")
    assert [(row["row"], row["seed"]) for row in rows] == ALL
    assert rows[2]["columns"] == {"a": 3, "b": 1}
    assert rows[0]["config_id"] == rows[2]["config_id"] != rows[1]["config_id"]
    for name in ("code", "hardware", "software", "date", "command", "protocol", "metric", "scale"):
        assert rows[0][name]


def test_finished_cases_are_not_run_again_and_an_interruption_loses_none(tmp_path):
    with pytest.raises(Stopped):
        run(Counting(stop_at=("one", 1)), tmp_path)
    again = Counting()
    rows = run(again, tmp_path)
    assert again.ran == ALL[2:]
    assert [(row["row"], row["seed"]) for row in rows] == ALL
    third = Counting()
    assert run(third, tmp_path) == rows
    assert third.ran == []


def test_results_of_another_config_do_not_count(tmp_path):
    run(Counting(version=1), tmp_path)
    changed = Counting(version=2)
    run(changed, tmp_path)
    assert changed.ran == ALL


def test_a_line_torn_by_a_kill_is_run_again(tmp_path):
    run(Counting(), tmp_path)
    path = tmp_path / "results/counting.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    again = Counting()
    run(again, tmp_path)
    assert again.ran == ALL[3:]
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [0, 0, 1, 1]


def test_only_the_lines_asked_for_run(tmp_path):
    counting = Counting()
    run(counting, tmp_path, rows=("two",))
    assert counting.ran == [("two", 0), ("two", 1)]
    with pytest.raises(ValueError, match="counting at laptop has no line 'xyz'; lines: 'one', 'two'"):
        run(counting, tmp_path, rows=("xyz",))
    with pytest.raises(ValueError, match="has no line 'tow'; did you mean 'two'"):
        run(counting, tmp_path, rows=("tow",))
    with pytest.raises(ValueError, match="counting has no scale 'gpu'; scales: laptop"):
        run_experiment(counting.experiment, "gpu", range(1), Place(), results=tmp_path)


@pytest.mark.parametrize("results", ["file", "file/below", "results"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, results):
    (tmp_path / "file").touch()
    (tmp_path / "results/counting.jsonl").mkdir(parents=True)
    counting = Counting()
    with pytest.raises(ValueError, match=r"cannot write .*counting\.jsonl .*choose another folder with --results"):
        run(counting, tmp_path, results=tmp_path / results)
    assert counting.ran == []


def test_a_case_gives_the_columns_it_says(tmp_path):
    counting = Counting()
    counting.experiment = replace(counting.experiment, columns=("a", "b", "c"))
    with pytest.raises(AssertionError, match="counting, one: "):
        run(counting, tmp_path)


def test_without_resume_finished_lines_run_again(tmp_path):
    run(Counting(), tmp_path)
    again = Counting()
    run(again, tmp_path, resume=False)
    assert again.ran == ALL
    assert len(read_rows(tmp_path / "results/counting.jsonl")) == 2 * len(ALL)


def test_without_resume_a_training_starts_anew(tmp_path):
    case = next(case for case in experiment("scale").cases("smoke", 0))
    place = Place(work=tmp_path, cache_dir=tmp_path / "cache")
    (first,) = case.run(place)
    (checkpoint,) = tmp_path.glob("*/metrics.jsonl")
    checkpoint.write_text("not what a training wrote\n")
    (again,) = case.run(replace(place, resume=False))
    assert again["columns"] == first["columns"]
    assert "not what" not in checkpoint.read_text()


def test_lines_that_cannot_be_measured_do_not_keep_the_others_from_it(tmp_path):
    class Failing(Counting):
        def case(self, row, seed):
            case = super().case(row, seed)
            errors = {("one", 0): NotRun("out of memory"), ("two", 0): NotRun("step 3: loss nan")}

            def run(place):
                if (row, seed) in errors:
                    raise errors[row, seed]
                (result,) = case.run(place)
                yield result | {"columns": {"a": math.nan, "b": 1.0}} if (row, seed) == ("one", 1) else result

            return replace(case, run=run)

    failing = Failing()
    with pytest.raises(
        LinesNotRun, match=r"one, seed 0 \(out of memory\); two, seed 0 .*; one, seed 1 \(not a number\)"
    ):
        run(failing, tmp_path)
    rows = read_rows(tmp_path / "results/counting.jsonl")
    assert [(row["row"], row["seed"], row["columns"]) for row in rows] == [("two", 1, {"a": 3, "b": 1})]


def test_a_training_that_diverges_is_a_line_not_run(tmp_path, monkeypatch):
    def diverges(*arguments, **options):
        raise TrainingDiverged("step 3: loss nan")

    monkeypatch.setattr(training_case, "train", diverges)
    case = next(case for case in experiment("scale").cases("smoke", 0))
    with pytest.raises(NotRun, match="step 3: loss nan"):
        next(case.run(Place(work=tmp_path, cache_dir=tmp_path)))


def test_what_was_measured_elsewhere_says_so(tmp_path, capsys):
    run(Counting(), tmp_path)
    path = tmp_path / "results/counting.jsonl"
    rows = [row | {"hardware": row["hardware"] | {"cpu": "Abacus"}, "date": "2020-01-02"} for row in read_rows(path)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = []
    run(Counting(), tmp_path, seeds=1, notice=said.append)
    assert len(said) == 2
    assert "one · seed 0: a 3, b 0 (in " in said[0]
    assert "Abacus, 2020-01-02" in said[0]
    assert "--results OTHER_FOLDER" in said[0]


def test_a_row_names_the_code_that_ran_not_what_was_committed_meanwhile(tmp_path, monkeypatch):
    commits = iter("ab")
    monkeypatch.setattr("reformer.training.environment.code_version", lambda: {"commit": next(commits), "dirty": False})
    rows = run(Counting(), tmp_path)
    assert {row["code"]["commit"] for row in rows} == {"a"}


def test_another_process_finishing_a_line_meanwhile_leaves_one_row(tmp_path):
    class Overtaken(Counting):
        def case(self, row, seed):
            case = super().case(row, seed)

            def run_both(place):
                if (row, seed) == ("one", 0):
                    run(Counting(), tmp_path)
                yield from case.run(place)

            return replace(case, run=run_both)

    overtaken = Overtaken()
    run(overtaken, tmp_path)
    assert overtaken.ran == [("one", 0)]
    assert [(row["row"], row["seed"]) for row in read_rows(tmp_path / "results/counting.jsonl")] == ALL


def test_a_full_disk_shows_the_row_that_it_cannot_hold(tmp_path, monkeypatch):
    def full(path, line):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("reproduction.rows.append_line", full)
    said = []
    with pytest.raises(OSError, match=r"cannot append to .*counting.jsonl .*No space left.*by hand"):
        run(Counting(), tmp_path, seeds=1, notice=said.append)
    assert json.loads(said[-1])["columns"] == {"a": 3, "b": 0}


@pytest.mark.parametrize("damage", [{"columns": None}, {"columns": {"a": None}}, {"hardware": {}}, {"code": None}])
def test_a_damaged_row_does_not_count_as_finished(tmp_path, damage):
    run(Counting(), tmp_path)
    path = tmp_path / "results/counting.jsonl"
    first, *rest = read_rows(path)
    path.write_text("".join(json.dumps(row) + "\n" for row in [first | damage, *rest]))
    again = Counting()
    run(again, tmp_path)
    assert again.ran == ALL[:1]


def test_starting_anew_keeps_what_was_there_and_waits_for_who_trains_in_it(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "kept").write_text("a")
    with only_writer(directory), pytest.raises(RunError, match="another process is training"):
        set_aside(directory)
    set_aside(directory)
    assert not directory.exists()
    assert (tmp_path / "run.before/kept").read_text() == "a"
    set_aside(directory)  # nothing there: nothing is lost
    assert (tmp_path / "run.before/kept").exists()


def test_a_row_names_the_commits_that_trained_what_it_measures(tmp_path, monkeypatch):
    chosen = experiment("scale")
    name = chosen.cases("smoke", 0)[0].row

    def measured_at(commit, results):
        for module in ("reformer.training.environment", "reformer.training.loop"):
            monkeypatch.setattr(f"{module}.code_version", lambda: {"commit": commit, "dirty": False})
        place = Place(work=tmp_path, cache_dir=tmp_path / "cache")
        (row,) = run_experiment(
            chosen, "smoke", range(1), place, results=tmp_path / results, rows=(name,), notice=lambda line: None
        )
        return row["code"]

    assert measured_at("a" * 40, "first") == {"commit": "a" * 40, "dirty": False}
    later = measured_at("b" * 40, "second")
    assert later == {"commit": "b" * 40, "dirty": False, "earlier_commits": ["a" * 40]}
    assert commit_of({"code": later}) == "aaaaaaaaaa, bbbbbbbbbb"
