"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="drop-in: padding takes places",
        file="compat/lsh_self_attention.py",
        old="if mask is None:\n    return attend(*tensors)",
        new="return attend(*tensors)",
        tests="test_lsh_self_attention.py::test_padding_is_inert",
    ),
    Mutation(
        name="drop-in: rotations shared the wrong way round",
        file="compat/lsh_self_attention.py",
        old="rows = qk if self.random_rotations_per_head else",
        new="rows = qk if not self.random_rotations_per_head else",
        tests="test_lsh_self_attention.py::test_all_heads_share_their_rotations_unless_each_has_its_own",
    ),
    Mutation(
        name="drop-in: positions hashed",
        file="compat/lsh_self_attention.py",
        old="(qk, rotated, v), mask",
        new="(rotated, qk, v), mask",
        tests="test_lsh_self_attention.py::test_rotary_positions_are_applied_after_hashing",
    ),
    Mutation(
        name="drop-in: memory behind the sequence",
        file="compat/lsh_self_attention.py",
        old="everything = torch.cat([before, x], dim=1)",
        new="everything = torch.cat([x, before], dim=1)",
        tests="test_lsh_self_attention.py::test_memory_and_context_are_seen_by_every_token",
    ),
)
