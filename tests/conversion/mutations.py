"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="conversion: the start row is zero",
        file="conversion/weights.py",
        old="torch.cat([first, first[:1], torch.zeros_like(first[:1])])",
        new="torch.cat([first, torch.zeros_like(first[:2])])",
        tests="test_folder.py",
    ),
    Mutation(
        name="conversion: bidirectional local layers do not wrap",
        file="conversion/transformers_config.py",
        old='local_wrap="local" in kinds and not theirs["is_decoder"]',
        new="local_wrap=False",
        tests="test_parity.py",
    ),
    Mutation(
        name="conversion: LayerNorm's epsilon is ours",
        file="conversion/transformers_config.py",
        old='"layer_norm_eps": "layer_norm_eps",',
        new="",
        tests="test_parity.py",
    ),
    Mutation(
        name="conversion: any pickle opcode runs",
        file="conversion/restricted_pickle.py",
        old="if opcode.name not in _OPCODES:",
        new="if False:",
        tests="test_restricted_pickle.py",
    ),
    Mutation(
        name="conversion: surplus weights are left aside",
        file="conversion/weights.py",
        old="sorted(set(given) - set(names))",
        new="[]",
        tests="test_folder.py",
    ),
)
