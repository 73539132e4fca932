"""The lists of mutations: entries that have gone stale, for running them takes too long for every test run; the matcher."""

import ast
import functools

import pytest

from mutation import ROOT, Mutation, mutations

MUTATIONS = mutations()


@functools.cache
def names_of_tests(path: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}


def test_names_are_unique():
    assert MUTATIONS
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


def test_every_mutation_is_found_once_and_changes_the_code():
    for mutation in MUTATIONS:
        source = (ROOT / mutation.path).read_text()
        mutated = mutation.apply(source)
        if mutation.path.suffix == ".py":
            assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source)), mutation.name
        else:
            assert mutated != source, mutation.name


def test_every_mutation_names_tests_that_are_there():
    for mutation in MUTATIONS:
        path, _, test = mutation.tests.partition("::")
        assert (ROOT / path).exists(), mutation.name
        assert not test or test in names_of_tests(path), mutation.name


def mutation(old: str, new: str, file: str = "somewhere.py", within: str | None = None) -> Mutation:
    return Mutation(name="a mutation", file=file, old=old, new=new, tests="", within=within)


@pytest.mark.parametrize(
    "source",
    [
        'x = f(a, "b")\n',
        "x = f(a, 'b')\n",
        'x = f(\n    a,\n    "b",\n)\n',
        'x = f(\n    a,  # why\n    # and why\n    "b"\n)\n',
    ],
)
def test_a_key_survives_reformatting(source):
    changed = mutation('f(a, "b")', "f(b)").apply(source)
    assert changed == "x = f(b)\n"


def test_the_quotes_of_an_f_string_do_not_count():
    assert mutation("""f"{a['b']} c" """, "d").apply("""x = f"{a['b']} c"\n""") == "x = d\n"
    assert mutation("""f'{a} c'""", "d").apply("""x = f"{a} c"\n""") == "x = d\n"


def test_what_the_code_says_does_count():
    for other in ("x = f(a, 'c')\n", "x = f(a, b)\n", "x = f(a)\n", "x = ff(a, 'b')\n"):
        with pytest.raises(
            ValueError, match=r"a mutation: expected the old text once in somewhere\.py, got it 0 times"
        ):
            mutation("f(a, 'b')", "f(b)").apply(other)


def test_a_key_found_twice_is_refused():
    with pytest.raises(ValueError, match="got it 2 times"):
        mutation("f(a)", "f(b)").apply("f(a)\nf(\n    a,\n)\n")


def test_a_key_may_leave_a_bracket_open():
    assert mutation("where(a >= b,", "where(a > b,").apply("where(a >= b, c)\n") == "where(a > b, c)\n"


def test_statements_are_replaced_at_their_own_indentation():
    source = "def f():\n    if a:\n        b()\n        c()\n    d()\n"
    assert mutation("b()\n        c()", "if e:\n    pass").apply(source) == (
        "def f():\n    if a:\n        if e:\n            pass\n    d()\n"
    )


def test_within_looks_in_one_function_or_method_only():
    source = "def f():\n    a()\n\n\nclass C:\n    def f(self):\n        a()\n\n    def g(self):\n        a()\n"
    assert mutation("a()", "b()", within="f").apply(source) == source.replace("a()", "b()", 1)
    assert mutation("a()", "b()", within="C.g").apply(source).endswith("        a()\n\n    def g(self):\n        b()\n")
    with pytest.raises(ValueError, match=r"once in C of somewhere\.py, got it 2 times"):
        mutation("a()", "b()", within="C").apply(source)
    with pytest.raises(ValueError, match=r"there is no C\.h: nothing in it is called h"):
        mutation("a()", "b()", within="C.h").apply(source)


def test_white_space_of_cpp_does_not_count():
    source = "x = std::max(a,\n             b + 1);\n"
    assert mutation("std::max( a, b+1 )", "a", file="csrc/plan.cpp").apply(source) == "x = a;\n"
