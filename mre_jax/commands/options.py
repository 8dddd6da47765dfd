"""Values of options, as commands of several rooms take them."""

from mre_jax.errors import ConfigError


def parse_numbers(text: str, name: str) -> tuple[float, ...]:
    """Reads "5,5,5".

    Raises:
        ConfigError: if a part is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{name} {text!r}: want numbers with commas between, as 5,5,5") from None
