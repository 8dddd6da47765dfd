"""Numbers with commas between."""

import pytest

from mre_jax.commands.options import parse_numbers
from mre_jax.errors import ConfigError


def test_numbers_with_commas():
    assert parse_numbers("5,4.5,0", "--reward") == (5, 4.5, 0)
    with pytest.raises(ConfigError, match="--reward '5;5'"):
        parse_numbers("5;5", "--reward")
