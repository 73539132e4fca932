"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="pairs: an epoch is like the one before",
        file="data/pairs/batches.py",
        old="members[shuffled(len(members), seed=self.seed, epoch=epoch)]",
        new="members[shuffled(len(members), seed=self.seed, epoch=0)]",
        tests="test_batches.py",
    ),
    Mutation(
        name="pairs: the vocabulary learns from one side",
        file="data/pairs/preparing.py",
        old="itertools.chain.from_iterable(train)",
        new="(pair[0] for pair in train)",
        tests="test_preparing.py",
    ),
)
