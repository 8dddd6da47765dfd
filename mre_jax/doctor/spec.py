"""What `mre doctor` is asked to look at."""

import dataclasses

from mre_jax.judges.spec import JudgeSpec


@dataclasses.dataclass(frozen=True)
class DoctorSpec:
    """What is to be looked at beside the machine and the configuration.

    Attributes:
        run: the run's directory, local or gs://...
        devices: devices of all workers together that there should be; by default those that
            mesh.data and mesh.fsdp name, if they do.
        judge: a judge that the work asks.
        workers: processes that there should be, each with chips of its own.
    """

    run: str | None = None
    devices: int | None = dataclasses.field(default=None, metadata={"metavar": "N"})
    judge: JudgeSpec | None = dataclasses.field(default=None, metadata={"title": "judge"})
    workers: int | None = dataclasses.field(default=None, metadata={"metavar": "N"})
