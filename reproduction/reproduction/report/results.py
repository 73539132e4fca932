"""From rows to lines: those of the experiment's own configs, with all their seeds."""

from collections.abc import Iterable
from pathlib import Path

from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line
from reproduction.experiments.registry import NAMES
from reproduction.rows import Row, kind, problem, read_rows


def read_results(folder: Path) -> list[Row]:
    """The rows of experiments and estimates in ``folder``.

    Raises ValueError for a folder that is not there, a damaged row, and one of an experiment that we do not have.
    """
    if not folder.is_dir():
        raise ValueError(
            f"no folder of results {folder}; name it with --results, or measure with: reformer reproduce NAME"
        )
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for row in read_rows(path):
            what = kind(row)
            if what in ("experiment", "estimate"):
                if row[what] not in NAMES:
                    raise ValueError(
                        f"{path}: a row of {what} {row[what]!r}, which is none of {', '.join(NAMES)}; mend it"
                    )
                if (wrong := problem(row)) is not None:
                    raise ValueError(f"{path}: a row of {what} {row[what]!r}: {wrong}; mend or remove it")
                found.append(row)
    return found


def lines(experiment: Experiment, rows: Iterable[Row], scale: str) -> dict[str, Line]:
    """The lines of ``experiment`` that were run at ``scale`` by name, in the experiment's order.

    Rows of a config that the experiment no longer has do not count: beside its notes they would say what is not so. Of each
    seed the newest row counts. Raises ValueError for seeds that were measured on different data: a mean over them means nothing.
    """
    current = experiment.current(scale)
    found: dict[str, dict[int, Row]] = {name: {} for name in current}
    for row in rows:
        is_ours = row.get("experiment") == experiment.name and row["scale"] == scale
        if is_ours and current.get(row["row"]) == row["config_id"]:
            found[row["row"]][row["seed"]] = row
    for name, seeds in found.items():
        # The first rows kept no checksums, and what is drawn from seeds has none.
        data = [row["checksums"] for row in seeds.values() if row.get("checksums")]
        if any(each != data[0] for each in data):
            raise ValueError(
                f"{experiment.name}, {scale}, {name}: its seeds were measured on different data (checksums differ: "
                f"{', '.join(row['date'] for row in seeds.values())}); measure them anew on one, or remove the others"
            )
    return {
        name: Line(name, scale, tuple(seeds[seed] for seed in sorted(seeds))) for name, seeds in found.items() if seeds
    }
