"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="generation: rows share their random numbers",
        file="generation/sampling.py",
        old="generator=generators[row]",
        new="generator=generators[0]",
        tests="test_sampling.py",
    ),
    Mutation(
        name="generation: a stop string across tokens is missed",
        file="generation/protocol.py",
        old="kept = max(map(len, self.strings)) - 1",
        new="kept = max(map(len, self.strings)) - 2",
        tests="test_stopping.py",
    ),
    Mutation(
        name="generation: the search ends too early",
        file="generation/beam_search.py",
        old="_length_penalty(self.n_tokens, self.alpha)",
        new="_length_penalty(1, self.alpha)",
        tests="test_beam_search.py",
    ),
    Mutation(
        name="pictures: completed from other rows",
        file="generation/pictures.py",
        old="np.concatenate([given, found], axis=1)",
        new="np.concatenate([found, given], axis=1)",
        tests="test_pictures.py",
    ),
    Mutation(
        name="beam search: a prompt of no tokens keeps its row",
        file="generation/beam_search.py",
        old="if 0 < len(going_on) < len(searches):",
        new="if False:",
        tests="test_beam_search.py",
    ),
    Mutation(
        name="packed translation: one token less than there is room for",
        file="generation/translation.py",
        old="min(limit, longest - len(source)) for",
        new="min(limit, longest - len(source) - 1) for",
        tests="test_translation.py",
    ),
    Mutation(
        name="sampling: cold logits are divided before their maximum is taken off",
        file="generation/filters.py",
        old="relative = logits - logits.amax(-1, keepdim=True)",
        new="relative = logits",
        tests="test_filters.py",
    ),
    Mutation(
        name="beam search: parents are rows of their own prompt",
        file="generation/beam_search.py",
        old="rows += [first + parent for parent in parents]",
        new="rows += parents",
        tests="test_translation.py",
    ),
)
