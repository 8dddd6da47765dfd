"""One environment for every test: 8 CPU devices, strict dtypes, checked shapes, no network."""

import os
from pathlib import Path

# Compiling is most of what the tests do, and half of it goes into speed they do not need.
XLA_FLAGS = (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *XLA_FLAGS])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What an earlier test or run has compiled is not compiled again.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "xla")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import ipaddress
import socket

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401 (the hook looks it up)

# A slow example on a busy machine is no failure.
hypothesis.settings.register_profile("mre_jax", deadline=None)
hypothesis.settings.load_profile("mre_jax")

jax.config.update("jax_numpy_dtype_promotion", "strict")
# Whole signatures where arrays meet. In the other rooms what users call checks its arguments
# itself, and is tested doing so: there the shapes alone are checked.
install_import_hook(["mre_jax.models", "mre_jax.diffusion"], "beartype.beartype")
SHAPED = ("data", "editing", "evaluation", "io", "smartedit", "toyworld", "training", "weights")
install_import_hook([f"mre_jax.{room}" for room in SHAPED], "tests.shapes.check_arrays")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any connection that leaves this machine fails the test that tried it."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = "127.0.0.1" if address[0] == "localhost" else address[0]
            try:
                loopback = ipaddress.ip_address(host).is_loopback
            except ValueError:
                loopback = False
            if not loopback:
                raise RuntimeError(f"a test tried to reach {address!r}; tests need no network")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
