"""Out of memory is one line that says how much was asked for, what there is, and what to lower."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.errors import ConfigError
from mre_jax.io import memory

# What XLA says, by whom.
WORDS = {
    "a GPU": (
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 104.31GiB.\n[tf-allocator...]",
        "out of memory: 104.31GiB were asked for at once",
    ),
    "a CPU": (
        "RESOURCE_EXHAUSTED: Out of memory allocating 274877906944 bytes.",
        "out of memory: 256 GiB were asked for at once",
    ),
    "a compiler for TPUs": (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 17.20G of 15.48G hbm. "
        "Exceeded hbm capacity by 1.72G.\n\nTotal hbm usage >= 17.72G:\n    reserved 530.00M",
        "out of memory: the program needs 17.20G",
    ),
    "words to come": (
        "RESOURCE_EXHAUSTED: Not enough room for the tensor.\nstack",
        "out of memory: Not enough room for the tensor.",
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_whoever_says_it_it_is_one_line(case):
    text, expected = WORDS[case]
    with pytest.raises(ConfigError) as raised, memory.too_much_is_an_error("lower x"):
        raise jax.errors.JaxRuntimeError(text)
    told = str(raised.value)
    assert told.startswith(expected) and told.endswith("; lower x") and "\n" not in told
    assert raised.value.exit_code == 78


def test_the_device_tells_what_it_has(monkeypatch):
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 80 * 2**30}

    monkeypatch.setattr(memory.jax, "local_devices", lambda: [Device()])
    message = "and a device has 80 GiB; lower x"
    with pytest.raises(ConfigError, match=message), memory.too_much_is_an_error("lower x"):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


def test_a_real_program_that_is_too_large():
    message = r"out of memory: \d.* asked for.*; lower x$"
    with pytest.raises(ConfigError, match=message), memory.too_much_is_an_error("lower x"):
        jnp.zeros((1 << 46,), jnp.uint8).block_until_ready()


def program(size):
    """One whose temporary array has so many bytes."""
    shape = jax.ShapeDtypeStruct((size // 1024, 1024), jnp.uint8)
    return jax.jit(lambda x: jnp.sort(x, axis=0).sum(1)).lower(shape).compile()


def test_a_program_that_cannot_fit_is_refused_before_it_runs():
    memory.check_fits(program(1 << 20), "lower x")
    message = r"out of memory: the program needs .*GiB, and a device has .*GiB; lower x$"
    with pytest.raises(ConfigError, match=message):
        memory.check_fits(program(1 << 46), "lower x")


def test_a_batch_that_the_host_cannot_hold():
    message = r"out of memory: .*GiB.*; lower x$"
    with pytest.raises(ConfigError, match=message), memory.too_much_is_an_error("lower x"):
        np.empty((1 << 46,), np.uint8)


def test_other_errors_pass():
    error = jax.errors.JaxRuntimeError("INTERNAL: a bug")
    with pytest.raises(type(error), match="a bug"), memory.too_much_is_an_error("lower x"):
        raise error
