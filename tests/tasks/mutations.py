"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="recall: the filler is scored",
        file="tasks/recall.py",
        old="counted_where(distance > 0, sequence)",
        new="counted_where(distance >= 0, sequence)",
        tests="test_recall.py",
    ),
    Mutation(
        name="recall: needles of the test split in text of the training split",
        file="tasks/recall.py",
        old="self.corpus.split(split), length",
        new='self.corpus.split("test"), length',
        tests="test_recall.py",
    ),
    Mutation(
        name="pictures: every epoch in the same order",
        file="data/sampling.py",
        old="shuffled(n_rows, seed=seed, epoch=epoch)[row]",
        new="shuffled(n_rows, seed=seed)[row]",
        tests="test_images.py",
    ),
    Mutation(
        name="pictures: inputs are not shifted",
        file="tasks/images/task.py",
        old="return self.inputs(targets), targets",
        new="return targets, targets",
        tests="test_images.py",
    ),
    Mutation(
        name="pictures: evaluated in the order of the folder",
        file="tasks/images/task.py",
        old="found[order[:limit]]",
        new="found[:limit]",
        tests="test_images.py",
    ),
    Mutation(
        name="translation: pairs that are not scored are not named",
        file="tasks/translation/evaluation.py",
        old='f" ({n:,} of {split} left out, which have an empty side)" if n else ""',
        new='f" ({n:,} of {split} left out, which have an empty side)" if n < 0 else ""',
        tests="test_translation.py::test_pairs_that_are_not_scored_are_named",
    ),
    Mutation(
        name="translation: labels are not smoothed",
        file="tasks/translation/task.py",
        old='return self._loss(model, batch, seed, "mean", self.config.label_smoothing)',
        new='return self._loss(model, batch, seed, "mean", 0.0)',
        tests="test_translation.py::test_the_loss_is_the_smoothed_mean_over_the_target_tokens",
    ),
    Mutation(
        name="packed translation: the source is predicted too",
        file="tasks/translation/task.py",
        old="np.concatenate([np.full_like(s, _NOT_COUNTED), t])",
        new="np.concatenate([s, t])",
        tests="test_translation.py::test_a_packed_batch_is_source_and_target_in_one_sequence",
    ),
    Mutation(
        name="runs of before: bytes of pictures are taken for pictures",
        file="tasks/earlier.py",
        old='max(1, values.pop("eval_bytes") // values["seq_len"])',
        new='values.pop("eval_bytes")',
        tests="test_earlier.py",
    ),
    Mutation(
        name="runs of before: bits per dim become bits per byte",
        file="tasks/earlier.py",
        old='row.pop("metric", "bits per byte")',
        new='"bits per byte"',
        tests="test_earlier.py",
    ),
    Mutation(
        name="duplication: test sequences are those of validation",
        file="tasks/language_model.py",
        old='EVALUATION_SEED + (split == "test")',
        new="EVALUATION_SEED",
        tests="test_duplication.py",
    ),
    Mutation(
        name="text: the overlap of the options is forgotten",
        file="tasks/text/task.py",
        old="self.evaluate(model, split, options.limit, options.overlap)",
        new="self.evaluate(model, split, options.limit)",
        tests="test_protocol.py",
    ),
)
