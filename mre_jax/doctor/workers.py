"""What every worker of a pod reports, gathered on all of them, and what differs between them."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from mre_jax.doctor.finding import RETRY, Finding, failure, warning

CLOCKS_APART = 5.0
"""Seconds between the clocks of two workers that are worth a word."""


@dataclasses.dataclass(frozen=True)
class WorkerReport:
    """What one worker has found.

    Attributes:
        worker: its number, from 0.
        host: its name.
        findings: of its checks.
        facts: what must be the same on all workers, by name.
        clock: its clock, in seconds since 1970, when all had met.
    """

    worker: int
    host: str
    findings: tuple[Finding, ...]
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clock: float = 0.0

    def to_json(self) -> str:
        """The inverse of `from_json`."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "WorkerReport":
        """The inverse of `to_json`.

        Example:
            >>> report = WorkerReport(1, "host", (), {"jax": "0.10.2"})
            >>> WorkerReport.from_json(report.to_json()) == report
            True
        """
        content = json.loads(text)
        findings = tuple(Finding(**finding) for finding in content.pop("findings"))
        return cls(**content, findings=findings)


def gather(report: WorkerReport) -> list[WorkerReport]:
    """The reports of all workers, in their order; all of them call this together."""
    if jax.process_count() == 1:
        return [report]
    data = np.frombuffer(report.to_json().encode(), np.uint8)
    lengths = np.ravel(multihost_utils.process_allgather(np.array(len(data), np.int32)))
    padded = np.pad(data, (0, int(lengths.max()) - len(data)))
    rows = np.asarray(multihost_utils.process_allgather(padded), np.uint8)
    rows = rows.reshape(len(lengths), -1)
    texts = (bytes(row[:length]).decode() for row, length in zip(rows, lengths, strict=True))
    return [WorkerReport.from_json(text) for text in texts]


def meet() -> None:
    """Waits for all workers, so that their clocks can be read at one moment."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("mre doctor")


def differences(reports: Sequence[WorkerReport]) -> Iterator[Finding]:
    """What is not the same on all workers: who has what.

    Example:
        >>> one, two = (WorkerReport(n, "host", (), {"jax": f"0.{n}"}) for n in range(2))
        >>> [finding.says for finding in differences([one, two])]
        ['jax differs: 0.0 on worker 0; 0.1 on worker 1']
    """
    names = sorted({name for report in reports for name in report.facts})
    for name in names:
        values = {report.worker: report.facts.get(name, "missing") for report in reports}
        if len(set(values.values())) > 1:
            remedy = "make the workers alike: set them up by one script, from one commit and lock"
            yield failure("workers", f"{name} differs: {_by_value(values)}", remedy)
    clocks = {report.worker: report.clock for report in reports}
    apart = max(clocks.values()) - min(clocks.values())
    if apart > CLOCKS_APART:
        ahead, behind = max(clocks, key=clocks.__getitem__), min(clocks, key=clocks.__getitem__)
        says = f"the clock of worker {ahead} is {apart:.0f} s ahead of worker {behind}'s"
        yield warning("workers", says, "set the clocks: sudo timedatectl set-ntp true")
    doubles = Counter(report.worker for report in reports)
    if len(doubles) < len(reports):
        yield failure("workers", "two workers have one number", "correct JAX_PROCESS_ID", RETRY)


def _by_value(values: Mapping[int, str]) -> str:
    """Rarest first: that one is probably wrong."""
    having: dict[str, list[int]] = {}
    for worker in sorted(values):
        having.setdefault(values[worker], []).append(worker)
    parts = []
    for value, workers in sorted(having.items(), key=lambda item: len(item[1])):
        shown = ", ".join(map(str, workers[:4]))
        more = f" and {len(workers) - 4} more" if workers[4:] else ""
        parts.append(f"{value} on worker{'s' if workers[1:] else ''} {shown}{more}")
    return "; ".join(parts)
