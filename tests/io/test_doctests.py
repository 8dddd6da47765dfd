import doctest

import pytest

from mre_jax.io import begun_folder, devices, growing_file, tensor_hash


@pytest.mark.parametrize(
    "module", [begun_folder, devices, growing_file, tensor_hash], ids=lambda one: one.__name__
)
def test_examples_say_what_happens(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
