"""Contenders take turns, and what is said of their times is right."""

import pytest

from reproduction.case import Case, NotRun, Place, alone, take_turns
from reproduction.timing import Plan, plan, predicted, seconds_of, summary, timed


def case(name, seconds, repeats, calls, fails=False):
    def call():
        calls.append(name)
        if fails:
            raise NotRun("out of memory")
        return seconds

    def run(place):
        times = yield from timed(call, repeats)
        yield times

    return Case(row=name, config={}, run=run)


def test_contenders_take_turns_in_an_order_drawn_anew():
    calls = []
    cases = [case("a", 1.0, 8, calls), case("b", 2.0, 8, calls), case("c", 3.0, 2, calls)]
    finished = {each.row: measured for each, measured in take_turns(cases, Place())}
    assert {name: (row["median_s"], row["repeats"]) for name, row in finished.items()} == {
        "a": (1.0, 8),
        "b": (2.0, 8),
        "c": (3.0, 2),
    }
    # Nobody runs twice before everybody who still has runs to do ran once.
    rounds = [calls[:3], calls[3:6], *(calls[index : index + 2] for index in range(6, len(calls), 2))]
    assert [sorted(turn) for turn in rounds] == [["a", "b", "c"]] * 2 + [["a", "b"]] * 6
    assert len({tuple(turn) for turn in rounds[2:]}) == 2


def test_a_contender_that_fails_leaves_the_others_alone():
    cases = [case("a", 1.0, 3, [], fails=True), case("b", 1.0, 3, [])]
    found = {each.row: measured for each, measured in take_turns(cases, Place())}
    assert found["a"] == {"not_run": "out of memory"}
    assert found["b"]["repeats"] == 3


def test_a_case_alone_takes_all_its_turns_at_once():
    calls = []
    assert alone(case("a", 2.0, 3, calls))["median_s"] == 2.0
    assert calls == ["a"] * 3
    with pytest.raises(NotRun, match="out of memory"):
        alone(case("a", 2.0, 3, [], fails=True))


def test_medians_and_quartiles():
    assert summary([5.0, 1.0, 2.0, 100.0, 3.0]) == {
        "median_s": 3.0,
        "q1_s": 2.0,
        "q3_s": 5.0,
        "min_s": 1.0,
        "repeats": 5,
    }
    assert summary([2.0])["q3_s"] == 2.0


def test_a_long_call_is_predicted_from_the_faster_of_two_shorter_ones():
    asked, times = [], iter((9.0, 1.0))

    def time(length):
        asked.append(length)
        return next(times)

    assert predicted(time, 16_384, growth=2.0) == pytest.approx(64.0)
    assert asked == [2048, 2048]
    assert predicted(lambda length: 1.0, 4096, growth=1.0) == pytest.approx(4.0)
    # A short one is made without asking.
    assert predicted(lambda length: pytest.fail("asked"), 2048, growth=1.0) is None


def test_repeats_fit_into_the_limit_of_a_row():
    assert plan(1.0, max_seconds=100, repeats=5, warmed=False) == Plan(warmups=1, repeats=5)
    assert plan(30.0, max_seconds=100, repeats=5, warmed=False) == Plan(warmups=1, repeats=2)
    assert plan(40.0, max_seconds=100, repeats=5, warmed=False) == Plan(warmups=0, repeats=2)
    assert plan(90.0, max_seconds=100, repeats=5, warmed=False) == Plan(warmups=0, repeats=1)
    with pytest.raises(NotRun, match="predicted 235 s, more than the 120 s"):
        plan(235.0, max_seconds=120, repeats=5, warmed=False)


def test_a_short_call_is_repeated_until_the_clock_can_tell():
    calls = []
    assert seconds_of(lambda: calls.append(1), "cpu") < 0.02
    assert len(calls) > 10
    calls.clear()
    seconds_of(lambda: calls.append(1), "cpu", least_s=0.0)
    assert len(calls) == 1
