"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="muon: step of the shorter side",
        file="training/muon.py",
        old="math.sqrt(max(updates.shape[1:]))",
        new="math.sqrt(min(updates.shape[1:]))",
        tests="test_muon.py",
    ),
    Mutation(
        name="muon: no Nesterov momentum",
        file="training/muon.py",
        old='torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"]))',
        new="torch.stack(buffers)",
        tests="test_muon.py",
    ),
    Mutation(
        name="recall: the filler is scored",
        file="training/recall_task.py",
        old="np.where(distance > 0, sequence, -100)",
        new="np.where(distance >= 0, sequence, -100)",
        tests="test_recall_task.py",
    ),
    Mutation(
        name="recall: needles of the test split in text of the training split",
        file="training/recall_task.py",
        old="self.corpus.split(split), length",
        new='self.corpus.split("test"), length',
        tests="test_recall_task.py",
    ),
    Mutation(
        name="pictures: every epoch in the same order",
        file="data/sampling.py",
        old="shuffled(n_rows, seed=seed, epoch=epoch)[row]",
        new="shuffled(n_rows, seed=seed)[row]",
        tests="test_image_task.py",
    ),
    Mutation(
        name="pictures: inputs are not shifted",
        file="training/image_task.py",
        old="return shift_right(targets, config.model.start_id), targets",
        new="return targets, targets",
        tests="test_image_task.py",
    ),
    Mutation(
        name="pictures: evaluated in the order of the folder",
        file="training/image_task.py",
        old="found[order[: max(1, limit // self.config.seq_len)]]",
        new="found[: max(1, limit // self.config.seq_len)]",
        tests="test_image_task.py",
    ),
    Mutation(
        name="translation: pairs that are not scored are not named",
        file="training/translation_evaluation.py",
        old='f" ({n:,} of {split} left out, which have an empty side)" if n else ""',
        new='f" ({n:,} of {split} left out, which have an empty side)" if n < 0 else ""',
        tests="test_translation.py::test_pairs_that_are_not_scored_are_named",
    ),
    Mutation(
        name="training: a finished run writes its card again",
        file="training/loop.py",
        old="if state.step == config.steps and is_finished(self.directory):",
        new="if False:",
        tests="test_loop.py",
    ),
    Mutation(
        name="translation: labels are not smoothed",
        file="training/translation_task.py",
        old='return self._loss(model, batch, seed, "mean", self.config.label_smoothing)',
        new='return self._loss(model, batch, seed, "mean", 0.0)',
        tests="test_translation.py",
    ),
    Mutation(
        name="packed translation: the source is predicted too",
        file="training/translation_task.py",
        old="np.concatenate([np.full_like(s, _NOT_COUNTED), t])",
        new="np.concatenate([s, t])",
        tests="test_translation.py",
    ),
    Mutation(
        name="averaging: the newest checkpoint counts twice",
        file="training/averaging.py",
        old="for path in reversed(paths[-n:-1]):",
        new="for path in reversed(paths[-n + 1 :]):",
        tests="test_averaging.py",
    ),
)
