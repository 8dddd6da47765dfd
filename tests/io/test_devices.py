import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.io.devices import (
    _at_most,
    batch_mesh,
    compiler_options,
    copied,
    keep_programs,
    on_parts,
    split,
)

COUNT = "from mre_jax.io.devices import use_all_cores; print(use_all_cores())"


def devices(flags: str) -> int:
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.slow
def test_there_is_a_device_for_each_core():
    assert devices("") == len(os.sched_getaffinity(0))


@pytest.mark.slow
def test_a_number_that_is_asked_for_stays():
    assert devices("--xla_force_host_platform_device_count=3") == 3


@pytest.mark.parametrize(("cores", "found"), [(1, 1), (2, 2), (6, 4), (10, 8), (12, 8), (48, 32)])
def test_a_batch_is_divided_by_as_many_cores_as_can_divide_it(cores, found):
    """On six cores a batch of 32 was refused."""
    assert _at_most(cores, 32) == found
    assert _at_most(cores, None) == cores


def test_a_network_runs_on_every_device_with_its_part():
    mesh = batch_mesh()
    assert mesh.size == jax.device_count() > 1
    batch = jax.device_put(np.arange(2.0 * mesh.size), split(mesh))
    weight = jax.device_put(np.float32(3), copied(mesh))
    seen = []

    def function(weight, batch, plan):
        seen.append(batch.shape)
        return weight * batch + plan.sum()

    found = jax.jit(on_parts(function, mesh, whole=(0, 2)))(weight, batch, np.ones(3))
    np.testing.assert_array_equal(found, 3 * np.arange(2 * mesh.size) + 3)
    assert seen == [(2,)]
    assert found.sharding.spec == split(mesh).spec


def test_of_some_devices():
    assert batch_mesh(jax.devices()[:1]).size == 1


def test_programs_are_kept_where_the_user_says(monkeypatch, tmp_path):
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", "set")
        assert keep_programs("there") == "set"
        jax.config.update("jax_compilation_cache_dir", None)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert keep_programs() == str(tmp_path / "mre_jax" / f"xla-{jax.__version__}")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_one_cpu_does_not_convolve_by_ynn(monkeypatch):
    """A newer jaxlib may rename the option, which it would refuse, or make it do nothing."""
    assert jax.device_count() > 1 and compiler_options() == {}
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    picture, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    names = ("NHWC", "HWIO", "NHWC")

    def convolve(picture, kernel):
        return jax.lax.conv_general_dilated(
            picture, kernel, (1, 1), "SAME", dimension_numbers=names
        )

    options = compiler_options()
    compiled = jax.jit(convolve, compiler_options=options).lower(picture, kernel).compile()
    assert options and "__ynn_fusion" not in compiled.as_text()


def test_importing_networks_starts_no_device():
    """A process of a pod must be able to say first which devices are its own."""
    code = (
        "import mre_jax.editing.program, mre_jax.training.step, mre_jax.data.cache.encoders\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
