"""The software: Python, and libraries in the ranges that this code was tested with."""

import hashlib
import importlib.metadata
from collections.abc import Iterator, Mapping

from packaging.requirements import Requirement

from mre_jax.doctor.finding import Finding, failure, ok, warning
from mre_jax.training.run.environment import git_id, versions

CHECK = "software"


def check_software(installed: Mapping[str, str] | None = None, chips: int = 0) -> Iterator[Finding]:
    """Whether what is installed is what the core asks for.

    Args:
        installed: versions by name; by default what is installed here.
        chips: TPUs of this machine, which need libtpu.

    Example:
        >>> next(check_software({"numpy": "1.26.0"})).says
        'numpy 1.26.0, not <3,>=2.0'
    """
    wrong = []
    for requirement in _required():
        found = _version(requirement.name, installed)
        if found is not None and not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found}, not {requirement.specifier}")
    if wrong:
        remedy = "install it again: pip install --upgrade mre_jax"
        yield failure(CHECK, "; ".join(wrong), remedy)
    elif chips and _version("libtpu", installed) is None:
        yield failure(CHECK, f"{chips} TPUs and no libtpu", "pip install 'mre_jax[tpu]'")
    else:
        names = ("python", "jax", "flax")
        shown = ", ".join(f"{name} {version}" for name, version in versions().items()
                          if name in names)  # fmt: skip
        yield ok(CHECK, shown)
    commit = git_id()
    if commit is not None and commit.endswith("+changes"):
        says = f"files differ from commit {commit[:12]}: no record will say how"
        yield warning(CHECK, says, "commit them")


def software_facts() -> dict[str, str]:
    """What must be the same on every worker."""
    return {**versions(), "commit": git_id() or "none", "installed packages": _installed()}


def _installed() -> str:
    """A hash of the names and versions of all that is installed."""
    found = {f"{one.metadata['Name']}=={one.version}" for one in importlib.metadata.distributions()}
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:12]


def _required() -> Iterator[Requirement]:
    """Of the core; extras are asked for where they are used."""
    for line in importlib.metadata.requires("mre_jax") or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _version(name: str, installed: Mapping[str, str] | None) -> str | None:
    if installed is not None:
        return installed.get(name)
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
