"""The package on systems that lack what Linux has: every module imports, and cores are counted."""

import os
import subprocess
import sys

from mre_jax.io import processes

IMPORT_ALL = """
import builtins, importlib, pkgutil

ABSENT = {"fcntl", "grp", "posix", "pwd", "resource", "termios"}  # on Windows
original = builtins.__import__

def imported(name, globals=None, *rest, **named):
    if name in ABSENT and (globals or {}).get("__name__", "").startswith("mre_jax"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return original(name, globals, *rest, **named)

builtins.__import__ = imported
import mre_jax

for module in pkgutil.walk_packages(mre_jax.__path__, "mre_jax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_every_module_imports_on_other_systems():
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_cores_are_counted_where_no_affinity_is_told(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert processes.usable_cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processes.usable_cores() == 1
