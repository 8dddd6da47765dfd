"""What a run ran on: software, devices, and the commit of its code."""

import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

import jax

import mre_jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain", "libtpu")


def versions() -> dict[str, str]:
    """Of this project, Python, and those of `PACKAGES` that are installed."""
    found = {"mre_jax": mre_jax.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_id() -> str | None:
    """The commit of this code, with "+changes" if files differ from it; None outside git."""
    folder = Path(mre_jax.__file__).parent
    # Installed into an environment inside some repository, this code is none of its commits.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}+changes" if _git(folder, "status", "--porcelain", ".") else commit


def topology() -> dict[str, Any]:
    """Processes and devices of the whole job, and where this process runs."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kinds": sorted({device.device_kind for device in devices}),
        "devices": len(devices),
        "processes": jax.process_count(),
        "process": jax.process_index(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
