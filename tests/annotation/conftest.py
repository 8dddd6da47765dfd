import argparse

import pytest

from mre_jax.commands import annotate as annotate_command
from mre_jax.toyworld.dataset import Settings, write_dataset
from tests.judges.conftest import server  # noqa: F401 (a fixture)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A toy world of 12 triplets."""
    folder = tmp_path_factory.mktemp("toy")
    write_dataset(folder / "toy", Settings(examples=12, size=32, benchmark=1), workers=1)
    return folder / "toy"


@pytest.fixture
def annotate():
    """`mre annotate` with these words."""

    def annotate(*words):
        parser = argparse.ArgumentParser()
        annotate_command.add_arguments(parser)
        return annotate_command.run(parser.parse_args([str(word) for word in words]))

    return annotate
