"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="table2: usual attention with unit keys",
        file="reproduction/reproduction/experiments/table2.py",
        old="keys = q if self.scale is None else torch.nn.functional.normalize(q, dim=-1)",
        new="keys = torch.nn.functional.normalize(q, dim=-1)",
        tests="test_experiments.py::test_with_self_only_the_token_itself_is_seen_besides",
    ),
    Mutation(
        name="estimates: accumulated passes forgotten",
        file="reproduction/reproduction/experiments/estimating.py",
        old='"passes": config.steps * config.accumulate',
        new='"passes": config.steps',
        tests="test_estimating.py",
    ),
    Mutation(
        name="estimates: what is paid once is paid for each kind",
        file="reproduction/reproduction/experiments/estimating.py",
        old="sum(once) / len(once) + layers",
        new="sum(once) + layers",
        tests="test_estimating.py",
    ),
    Mutation(
        name="estimates: the square of the length forgotten",
        file="reproduction/reproduction/experiments/estimating.py",
        old='part.seq_len * line(first["seconds_per_pass"] / short, second["seconds_per_pass"] / long)',
        new='line(first["seconds_per_pass"], second["seconds_per_pass"])',
        tests="test_estimating.py",
    ),
    Mutation(
        name="reproduce: a row finished meanwhile is appended again",
        file="reproduction/reproduction/experiments/running.py",
        old="known = file.finished(what) if place.resume else None",
        new="known = None",
        tests="test_running.py",
    ),
    Mutation(
        name="running: a row names only the code that evaluated",
        file="reproduction/reproduction/experiments/running.py",
        old='return row | {"code": code | {"earlier_commits": earlier}} if earlier else row',
        new="return row",
        tests="test_running.py::test_a_row_names_the_commits_that_trained_what_it_measures",
    ),
    Mutation(
        name="report: seeds of different data are averaged",
        file="reproduction/reproduction/report/section.py",
        old="if any(each != data[0] for each in data):",
        new="if False:",
        tests="test_report.py",
    ),
    Mutation(
        name="cases: a turn is always taken in the same order",
        file="reproduction/reproduction/case.py",
        old="order.sample(list(waiting), len(waiting))",
        new="list(waiting)",
        tests="test_timing.py",
    ),
    Mutation(
        name="cases: what cannot be run ends the others",
        file="reproduction/reproduction/case.py",
        old='measured = {"not_run": str(reason)}',
        new="raise",
        tests="test_timing.py",
    ),
    Mutation(
        name="rows: measured by another commit counts as finished",
        file="reproduction/reproduction/rows.py",
        old='_HERE = ("code.commit", "hardware.cpu", "hardware.gpus")',
        new='_HERE = ("hardware.cpu", "hardware.gpus")',
        tests="test_rows.py",
    ),
)
