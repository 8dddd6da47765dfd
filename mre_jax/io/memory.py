"""Running out of memory: a setting that asks for too much, not a crash to be tried again."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import jax

from mre_jax.errors import ConfigError


@contextlib.contextmanager
def too_much_is_an_error(remedies: str) -> Iterator[None]:
    """Turns "out of memory", of a device or of this machine, into a `ConfigError` of one line.

    It says how much was asked for and what there is, as far as XLA and the device do. A device
    may tell late: the block should include the first look at what it computes.

    Args:
        remedies: the settings to change, as "lower --batch-size".
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        text = str(error)
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in text:
            raise
        raise ConfigError(f"out of memory: {_asked(text)}{_there_is()}; {remedies}") from None


def check_fits(program: jax.stages.Compiled, remedies: str) -> None:
    """Refuses a program that needs more memory than a device has, before anything is read for it.

    Args:
        remedies: what helps; see `too_much_is_an_error`.

    Raises:
        ConfigError: telling both amounts.
    """
    sizes: Any = program.memory_analysis()
    limit = _limit()
    if sizes is None or limit is None:
        return
    needed = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes
    needed += sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    if needed > limit:
        raise ConfigError(
            f"out of memory: the program needs {_gib(needed)}{_there_is()}; {remedies}"
        )


def _asked(text: str) -> str:
    """How much, from XLA's words while it allocates or compiles, or from NumPy's."""
    # A compiler for TPUs: "Used 17.20G of 15.48G hbm."
    if compiled := re.search(r"[Uu]sed ([\d.]+ ?\w+) of [\d.]+ ?\w+ hbm", text):
        return f"the program needs {_readable(compiled[1])}"
    if allocated := re.search(r"allocat\w* ([\d.]+ ?\w+)", text):
        return f"{_readable(allocated[1])} were asked for at once"
    return text.partition("\n")[0].removeprefix("RESOURCE_EXHAUSTED: ") or "no more was to be had"


def _readable(size: str) -> str:
    number = re.fullmatch(r"(\d+) ?(?:b|bytes?)?", size)
    return _gib(int(number[1])) if number else size


def _there_is() -> str:
    limit = _limit()
    return "" if limit is None else f", and a device has {_gib(limit)}"


def _limit() -> int | None:
    """Bytes of a device, if that is known; a machine's own are shared by its processors."""
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit or device.platform != "cpu" or not hasattr(os, "sysconf"):
        return limit
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return whole // jax.local_device_count()


def _gib(size: int) -> str:
    gib = size / 2**30
    return f"{gib:,.0f} GiB" if gib >= 100 else f"{gib:.3g} GiB"
