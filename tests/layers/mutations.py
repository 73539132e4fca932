"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="one stream: functions all read the input",
        file="ops/reversible.py",
        old="for layer in layers:\n    for branch in layer:\n        x = x + _update(branch, x, shared)\nreturn x",
        new="return x + sum(_update(branch, x, shared) for layer in layers for branch in layer)",
        tests="test_reversible.py::test_one_stream_is_an_ordinary_transformer",
    ),
    Mutation(
        name="dropout: all layers draw the same masks",
        file="layers/reversible.py",
        old="derive_seed(seed, index, 0)",
        new="derive_seed(seed, 0, 0)",
        tests="test_reversible.py::test_layers_draw_different_masks_and_rotations",
    ),
    Mutation(
        name="positions: column-major axes",
        file="layers/positions.py",
        old="for size, table in zip(self.shape, self.tables):",
        new="for size, table in list(zip(self.shape, self.tables))[::-1]:",
        tests="test_positions.py::test_coordinates_by_hand",
    ),
    Mutation(
        name="positions: rotation the same everywhere",
        file="layers/positions.py",
        old="first * cos - second * sin, second * cos + first * sin",
        new="first * cos - second * sin, second * cos - first * sin",
        tests="test_positions.py",
    ),
)
