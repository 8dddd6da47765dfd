"""XLA programs kept on disk, so that the second start of a command does not compile again."""

import os
from pathlib import Path

import jax


def enable(folder: str | None = None) -> str:
    """Keeps compiled programs in `folder` from now on; returns the folder.

    A folder already set, by `JAX_COMPILATION_CACHE_DIR` or in JAX's configuration, wins. The
    default is per user and JAX version: whoever can write there can run code in this process, so
    it must not be shared.
    """
    current = jax.config.values["jax_compilation_cache_dir"]
    if current:
        return current
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = folder or str(cache / "mre_jax" / f"xla-{jax.__version__}")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)
    return folder
