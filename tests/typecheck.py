"""A pytest plugin: what ops and layers are given and return is compared with their annotations (jaxtyping, beartype).

tests/test_types.py loads it in a process of its own, before anything imports reformer. Users of the library never meet it:
the packages are in the extra "test" only.
"""

import pytest
from jaxtyping import config, install_import_hook

install_import_hook(["reformer.ops", "reformer.layers"], "beartype.beartype")

# torch.compile cannot trace the checks, and a symbolic size is no int.
_COMPILING = ("test_compile", "test_registration", "test_triton_compile")


@pytest.fixture(autouse=True)
def _annotations_are_checked(request: pytest.FixtureRequest) -> None:
    # A test of what is refused gives the wrong type on purpose, and wants the op's own error.
    unchecked = request.path.stem in _COMPILING or request.node.originalname.endswith("_refused")
    config.update("jaxtyping_disable", unchecked)
