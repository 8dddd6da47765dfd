"""All checks in their order, on every worker, as one diagnosis.

from mre_jax.doctor.examine import examine
from mre_jax.doctor.spec import DoctorSpec

diagnosis = examine(DoctorSpec(run="gs://bucket/run"), load_config("configs/reward_ip2p.yaml"))
print(diagnosis)
"""

import contextlib
import dataclasses
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import jax

from mre_jax.data.records.local_copy import copies_folder
from mre_jax.doctor.checks.chips import check_devices, check_fit, check_holders
from mre_jax.doctor.checks.clock import check_clock
from mre_jax.doctor.checks.cloud import check_queued_resources, check_region
from mre_jax.doctor.checks.data import PreparedSet, Sets, check_cached, check_data, open_sets
from mre_jax.doctor.checks.environment import COMPARED, check_environment
from mre_jax.doctor.checks.judge import check_judge
from mre_jax.doctor.checks.model import check_model
from mre_jax.doctor.checks.software import check_software, software_facts
from mre_jax.doctor.checks.storage import (
    check_compile_cache,
    check_disk,
    check_folder,
)
from mre_jax.doctor.finding import Finding, exit_code
from mre_jax.doctor.machine import Machine
from mre_jax.doctor.spec import DoctorSpec
from mre_jax.doctor.workers import WorkerReport, differences, gather, meet
from mre_jax.errors import MreError
from mre_jax.io.columns import columns
from mre_jax.planning.plan import checkpoints_of
from mre_jax.planning.prices import load_prices
from mre_jax.planning.storage import inputs_of
from mre_jax.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What all workers have found.

    Attributes:
        reports: of each worker, in their order.
        between: what differs between them.
    """

    reports: tuple[WorkerReport, ...]
    between: tuple[Finding, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        """Of all workers, and between them."""
        return [f for report in self.reports for f in report.findings] + [*self.between]

    @property
    def exit_code(self) -> int:
        """That of the worst finding: 78, 65 or 70 of a failure, else 0."""
        return exit_code(self.findings)

    def to_json(self) -> str:
        """One JSON object: exit code, workers, what differs."""
        content: dict[str, Any] = {"exit_code": self.exit_code, **dataclasses.asdict(self)}
        return json.dumps(content, indent=1)

    def __str__(self) -> str:
        """A table: what all workers found alike once, then what only some did, then a summary."""
        rows = [(f.level, f.check, says, f.remedy) for f, says in self._rows()]
        table = columns([("", "check", "found", "remedy"), *rows])
        counts = {level: sum(row[0] == level for row in rows) for level in ("failure", "warning")}
        workers = len(self.reports)
        told = ", ".join(f"{n} {level}{'s' * (n != 1)}" for level, n in counts.items())
        return f"{table}\n{workers} worker{'s' * (workers != 1)}: {told}"

    def _rows(self) -> Iterator[tuple[Finding, str]]:
        seen: dict[Finding, list[int]] = {}
        for report in self.reports:
            for finding in report.findings:
                seen.setdefault(finding, []).append(report.worker)
        for finding, workers in seen.items():
            some = len(workers) < len(self.reports)
            where = f"worker {', '.join(map(str, workers))}: " if some else ""
            # That all is well is said once, though each worker has its own words for it.
            if finding.level != "ok" or not some or workers[0] == 0:
                yield finding, where * (finding.level != "ok") + finding.says
        yield from ((finding, finding.says) for finding in self.between)


def examine(
    spec: DoctorSpec | None = None,
    config: TrainConfig | None = None,
    machine: Machine | None = None,
    *,
    join: Callable[[], object] = lambda: None,
) -> Diagnosis:
    """Looks at everything; changes nothing, and costs nothing. All workers call this together.

    Args:
        spec: what to look at; None is `DoctorSpec()`.
        config: the run; None looks at the machine alone.
        join: joins the other workers; called when this one's chips are found free, since JAX takes
            them then.

    Example:
        >>> diagnosis = examine(DoctorSpec(run="runs/first"))
        >>> diagnosis.exit_code
        0
    """
    spec, machine = spec or DoctorSpec(), machine or Machine()
    first = (*check_holders(machine), *check_environment(machine))
    if exit_code(first):
        # JAX would wait for the chips, or for workers that are not there.
        return Diagnosis((WorkerReport(_process(machine), socket.gethostname(), first),))
    join()
    sets: Sets = {} if config is None else open_sets(config)
    findings = (*first, *_own(spec, config, sets, machine))
    facts = _facts(config, sets, machine)
    meet()
    report = WorkerReport(jax.process_index(), socket.gethostname(), findings, facts, machine.now())
    reports = gather(report)
    return Diagnosis(tuple(reports), tuple(differences(reports)))


def _own(
    spec: DoctorSpec, config: TrainConfig | None, sets: Sets, machine: Machine
) -> Iterator[Finding]:
    yield from check_software(chips=len(machine.tpu_chips()))
    asked = _asked(spec, config)
    yield from check_devices(config, asked, len(machine.chips()), spec.workers)
    yield from check_clock(machine)
    yield from check_compile_cache(machine)
    prices = load_prices()
    if spec.run is not None:
        yield from check_folder("run", spec.run)
        yield from check_region(spec.run, machine, prices)
    if config is not None:
        yield from _of_config(spec, config, sets, machine)
    if spec.judge is not None:
        yield from check_judge(spec.judge, machine)
    if jax.process_index() == 0:
        yield from check_queued_resources(machine)


def _of_config(
    spec: DoctorSpec, config: TrainConfig, sets: Sets, machine: Machine
) -> Iterator[Finding]:
    yield from check_data(config, sets)
    encoders, findings = check_model(config, spec.run, machine)
    yield from findings
    yield from check_cached(config, sets, encoders)
    kinds = {device.device_kind for device in jax.devices()}
    yield from check_fit(config, _inputs(config, sets), min(kinds), jax.device_count())
    prices = load_prices()
    for folder in config.data.paths:
        yield from check_region(folder, machine, prices)
    if spec.run is not None and jax.process_index() == 0:
        with contextlib.suppress(MreError):  # of a model that the weights' check has refused
            yield from check_disk(spec.run, checkpoints_of(config), "checkpoints", machine)
    far = [one for folder, one in sets.items() if "://" in folder and isinstance(one, PreparedSet)]
    if far and not config.data.requests:  # each worker copies them
        place = machine.environment.get("MRE_DATA_CACHE", str(copies_folder()))
        size = sum(one.manifest.bytes for one in far)
        yield from check_disk(place, size, "copies of the sets", machine)


def _inputs(config: TrainConfig, sets: Sets) -> str:
    """What a step reads of these sets."""
    whole = [one for folder in config.data.paths if isinstance(one := sets[folder], PreparedSet)]
    return inputs_of(config, [one.cache for one in whole])


def _facts(config: TrainConfig | None, sets: Sets, machine: Machine) -> dict[str, str]:
    facts = {**software_facts(), "local devices": str(jax.local_device_count())}
    facts |= {name: machine.environment.get(name, "unset") for name in COMPARED}
    if config is not None:
        facts["configuration"] = config.hash[:12]
    for folder, one in sets.items():
        facts[folder] = one.manifest.hash[:12] if isinstance(one, PreparedSet) else "not whole"
    return facts


def _asked(spec: DoctorSpec, config: TrainConfig | None) -> int | None:
    if spec.devices is not None or config is None or config.mesh.data == -1:
        return spec.devices
    return config.mesh.data * config.mesh.fsdp


def _process(machine: Machine) -> int:
    """Number of this worker before it has joined the others, as far as variables tell."""
    for name in ("JAX_PROCESS_ID", "TPU_WORKER_ID"):
        if (text := machine.environment.get(name, "")).isdecimal():
            return int(text)
    return 0
