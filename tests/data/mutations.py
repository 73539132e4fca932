"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="recall: the key is asked for",
        file="data/recall.py",
        old="distance[row, asked + 2] =",
        new="distance[row, asked + 1] =",
        tests="test_recall.py",
    ),
)
