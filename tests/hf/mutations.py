"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="accelerate: rotations not drawn again",
        file="hf/accelerate.py",
        old="self._rotations(qk, buckets.shape[2])",
        new="pass",
        tests="test_accelerate.py::test_gradients_under_dropout_are_right_which_theirs_are_not",
    ),
    Mutation(
        name="accelerate: no bucket for padding",
        file="hf/accelerate.py",
        old="n_buckets += 1",
        new="pass",
        tests="test_accelerate.py::test_same_rotations_same_logits",
    ),
    Mutation(
        name="accelerate: left padding moves local chunks",
        file="hf/accelerate.py",
        old="or not self._same(attention_mask)",
        new="",
        tests="test_accelerate.py::test_same_rotations_same_logits",
    ),
    Mutation(
        name="hf: a row's last token is that of the batch",
        file="hf/classification.py",
        old="torch.where(last < 0, length - 1, last)",
        new="torch.full_like(last, length - 1)",
        tests="test_heads.py",
    ),
    Mutation(
        name="hf: padding takes part in the mean",
        file="hf/classification.py",
        old="hidden.masked_fill(~real, 0.0).sum(1)",
        new="hidden.sum(1)",
        tests="test_heads.py",
    ),
    Mutation(
        name="hf: the loss counts what padding predicts",
        file="hf/inputs.py",
        old="(segment_ids[:, :-1] < 0) | (segment_ids[:, 1:] < 0)",
        new="segment_ids[:, 1:] < 0",
        tests="test_heads.py",
    ),
    Mutation(
        name="hf: accumulated gradients are of a mean",
        file="hf/language_models.py",
        old='reduction="mean" if n_items is None else "sum"',
        new='reduction="mean"',
        tests="test_heads.py",
    ),
    Mutation(
        name="hf: the cache is told the wrong end of the mask",
        file="hf/cache.py",
        old="segment_ids[:, -new:]",
        new="segment_ids[:, :new]",
        tests="test_generation.py",
    ),
    Mutation(
        name="hf: generation ignores its seed once it has a cache",
        file="hf/modeling.py",
        old="seed = self.config.hash_seed if seed is None else seed",
        new="seed = self.config.hash_seed",
        tests="test_generation.py",
    ),
    Mutation(
        name="hf: a generation may be one token too long",
        file="hf/generation.py",
        old="n_inputs <= longest",
        new="n_inputs <= longest + 1",
        tests="test_generation.py",
    ),
    Mutation(
        name="hf: start and mask lose their rows to a larger vocabulary",
        file="hf/resizing.py",
        old="torch.cat([rows, old[before:]])",
        new="torch.cat([rows, rows[-2:]])",
        tests="test_resizing.py",
    ),
    Mutation(
        name="hf: a new head starts as transformers' heads do",
        file="hf/modeling.py",
        old="nn.init.xavier_uniform_(module.weight)",
        new="nn.init.normal_(module.weight, std=0.02)",
        tests="test_saving.py",
    ),
    Mutation(
        name="hf: text is replaced, not kept",
        file="hf/tokenization.py",
        old='token.encode("latin-1") if len(token) == 1 else token.encode()',
        new="token.encode()",
        tests="test_tokenization.py",
    ),
)
