"""Entries of tests/mutations.py that have gone stale; running them takes too long for every test run."""

from tests.mutations import MUTATIONS, ROOT


def test_every_mutation_still_finds_its_text_once():
    for mutation in MUTATIONS:
        root = ROOT if mutation.file.startswith("csrc/") else ROOT / "src" / "reformer"
        assert (root / mutation.file).read_text().count(mutation.old) == 1, mutation.name
        assert mutation.new != mutation.old, mutation.name


def test_every_mutation_names_tests_that_are_there():
    for mutation in MUTATIONS:
        assert (ROOT / mutation.tests.partition("::")[0]).exists(), mutation.name
