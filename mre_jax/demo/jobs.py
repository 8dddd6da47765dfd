"""The jobs that a demo is made of, each of which a command of `mre` does too."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mre_jax.data.prepare import CacheSpec, PrepareSpec, cache, prepare
from mre_jax.errors import DataError
from mre_jax.evaluation.judging import JudgedSuite
from mre_jax.evaluation.suite import check_complete
from mre_jax.evaluation.suites.challenging import Challenging
from mre_jax.evaluation.suites.real_edit import RealEdit
from mre_jax.toyworld.dataset import Settings, write_dataset
from mre_jax.training.config import TrainConfig
from mre_jax.training.export import export
from mre_jax.training.train import train
from mre_jax.weights.convert import ConvertSpec, convert


@dataclasses.dataclass(frozen=True)
class MakeToy:
    """A toy world to write.

    Attributes:
        out: folder of it.
        settings: what is in it.
    """

    out: Path
    settings: Settings


@dataclasses.dataclass(frozen=True)
class Train:
    """A training.

    Attributes:
        config: of the run.
        file: where that is written, to be read and repeated.
        run: the run's directory.
    """

    config: TrainConfig
    file: Path
    run: Path

    def save(self) -> None:
        """Writes the configuration."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.config.save(self.file)


@dataclasses.dataclass(frozen=True)
class Export:
    """The model that a run has trained, as a folder, in place of one that is there.

    Attributes:
        run: the run's directory.
        out: the model folder to write.
    """

    run: Path
    out: Path


Job = ConvertSpec | MakeToy | PrepareSpec | CacheSpec | Train | Export | RealEdit | Challenging


def do(job: Job) -> Iterator[str]:
    """Does a job; yields what came of it, in lines.

    Raises:
        MreError: as the job does.
        DataError: if weights that were brought in differ from PyTorch.
    """
    match job:
        case ConvertSpec():
            report = convert(job)
            for name, error in report.relative_error.items():
                yield f"{name}: relative difference to PyTorch {error:.1e}"
            if not report.fits_pytorch:
                raise DataError(f"{job.dst}: differs from PyTorch by more than rounding")
        case MakeToy():
            write_dataset(job.out, job.settings)
        case PrepareSpec():
            yield str(prepare(job))
        case CacheSpec():
            yield str(cache(job))
        case Train():
            job.save()
            train(job.config, job.run)
        case Export():
            export(job.run, job.out, force=True)
        case JudgedSuite():
            rows = job.evaluate()
            check_complete(rows)
            yield from job.summary(rows)[:3]
