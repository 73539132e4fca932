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
        name="training: a finished run writes its card again",
        file="training/loop.py",
        old="if state.step == config.steps and is_finished(self.directory):",
        new="if False:",
        tests="test_loop.py",
    ),
    Mutation(
        name="averaging: the newest checkpoint counts twice",
        file="training/checkpoint.py",
        old="for path in reversed(paths[-n:-1]):",
        new="for path in reversed(paths[-n + 1 :]):",
        tests="test_averaging.py",
    ),
)
