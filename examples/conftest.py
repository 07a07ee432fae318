"""What the examples' tests share: database servers, and a run of the example beside the test."""

from pathlib import Path

import pytest

from interop.peers import toolchain
from reefknot.demo.gallery import Servers, examples, run


@pytest.fixture(scope="session")
def servers():
    with Servers() as servers:
        yield servers


@pytest.fixture(scope="module")
def finished(request, servers):
    """The example in the test's folder, run to its end."""
    example = examples()[Path(request.path).parent.name]
    if "go" in example.needs:
        toolchain("go", "apt-get install golang-go (1.19 or newer)")
    finished = run(example, servers, [].append)
    assert finished.exit_code == 0, finished.output
    return finished
