"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="table2: usual attention with unit keys",
        file="experiments/table2.py",
        old="keys = q if self.scale is None else torch.nn.functional.normalize(q, dim=-1)",
        new="keys = torch.nn.functional.normalize(q, dim=-1)",
        tests="test_experiments.py::test_with_self_only_the_token_itself_is_seen_besides",
    ),
    Mutation(
        name="estimates: accumulated passes forgotten",
        file="experiments/estimating.py",
        old='"passes": config.steps * config.accumulate',
        new='"passes": config.steps',
        tests="test_estimating.py",
    ),
    Mutation(
        name="estimates: what is paid once is paid for each kind",
        file="experiments/estimating.py",
        old="sum(once) / len(once) + layers",
        new="sum(once) + layers",
        tests="test_estimating.py",
    ),
    Mutation(
        name="estimates: the square of the length forgotten",
        file="experiments/estimating.py",
        old='part.seq_len * line(first["seconds_per_pass"] / short, second["seconds_per_pass"] / long)',
        new='line(first["seconds_per_pass"], second["seconds_per_pass"])',
        tests="test_estimating.py",
    ),
    Mutation(
        name="reproduce: a row finished meanwhile is appended again",
        file="experiments/running.py",
        old="if not resume or _finished(read_rows(path), experiment, scale, case) is None:",
        new="if True:",
        tests="test_running.py",
    ),
    Mutation(
        name="running: a row names only the code that evaluated",
        file="experiments/running.py",
        old='code["earlier_commits"] = earlier',
        new="pass",
        tests="test_running.py::test_a_row_names_the_commits_that_trained_what_it_measures",
    ),
    Mutation(
        name="report: seeds of different data are averaged",
        file="experiments/report/aggregate.py",
        old="if any(each != data[0] for each in data):",
        new="if False:",
        tests="test_report.py",
    ),
)
