"""Google's cloud around the machine: dead requests that eat the quota, and where the bucket is."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mre_jax.doctor.finding import Finding, ok, warning
from mre_jax.doctor.machine import Machine
from mre_jax.planning.prices import Prices
from mre_jax.planning.region import region_warning

DEAD = ("FAILED", "SUSPENDED")
"""States in which a queued resource does nothing and still counts; see Google's documents."""

_LIST = ("gcloud", "compute", "tpus", "queued-resources", "list", "--format=json", "--quiet")


def check_queued_resources(machine: Machine) -> Iterator[Finding]:
    """Queued resources that are dead, and quotas that are used up; where gcloud is there.

    Example:
        >>> list(check_queued_resources(Machine(which=lambda name: None)))
        []
    """
    zone = machine.zone()
    if machine.which("gcloud") is None or zone is None:
        return
    listed = _json(machine.run([*_LIST, f"--zone={zone}"]))
    if not isinstance(listed, list):
        remedy = "log in: gcloud auth login, and set a project: gcloud config set project"
        yield warning("quota", f"gcloud does not list the queued resources of {zone}", remedy)
        return
    dead = [(one["name"].rpartition("/")[2], _state(one)) for one in listed if _state(one) in DEAD]
    for name, state in dead:
        yield warning(
            "quota",
            f"queued resource {name} is {state} and eats the quota",
            f"gcloud compute tpus queued-resources delete {name} --zone={zone} --force",
        )
    full = list(_used_up(machine, zone))
    yield from full
    if not dead and not full:
        yield ok("quota", f"{len(listed)} queued resources in {zone}, none of them dead")


def _used_up(machine: Machine, zone: str) -> Iterator[Finding]:
    region = zone.rpartition("-")[0]
    command = ["gcloud", "compute", "regions", "describe", region, "--format=json(quotas)"]
    described = _json(machine.run(command))
    quotas = described.get("quotas", []) if isinstance(described, dict) else []
    for quota in quotas:
        if "TPU" in quota["metric"] and 0 < quota["limit"] <= quota["usage"]:
            yield warning(
                "quota",
                f"{quota['metric']} in {region}: all {quota['limit']:g} in use",
                "delete what is not needed, or ask for more",
            )


def check_region(place: str, machine: Machine, prices: Prices) -> Iterator[Finding]:
    """Whether a bucket is in the region of the chips; nothing where neither can be asked.

    Example:
        >>> from mre_jax.planning.prices import load_prices
        >>> list(check_region("runs/first", Machine(environment={}), load_prices()))
        []
    """
    zone = machine.zone()
    if zone is None or machine.which("gcloud") is None:
        return
    told = region_warning(place, zone, 1.0, prices, machine.run)
    if told is not None:
        remedy = "take a bucket in the region of the chips, or chips in that of the bucket"
        yield warning("region", told, remedy)
    elif place.startswith("gs://"):
        yield ok("region", f"{place} is beside {zone}, or its place cannot be asked")


def _state(queued: Mapping[str, Any]) -> str:
    return str(queued.get("state", {}).get("state", ""))


def _json(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None
