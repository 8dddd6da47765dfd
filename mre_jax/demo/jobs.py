"""The jobs that a demo is made of, each of which a command of `mre` does too."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from mre_jax.data.prepare import CacheSpec, PrepareSpec, cache, prepare
from mre_jax.errors import DataError
from mre_jax.evaluation.judging import JudgedSuite
from mre_jax.evaluation.suite import check_complete
from mre_jax.evaluation.suites.challenging import Challenging
from mre_jax.evaluation.suites.real_edit import RealEdit
from mre_jax.toyworld.dataset import Settings, write_dataset
from mre_jax.training.config import TrainConfig
from mre_jax.training.export import ExportSpec, export
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


Job = ConvertSpec | MakeToy | PrepareSpec | CacheSpec | Train | ExportSpec | RealEdit | Challenging


def do(job: Job, say: Callable[[str], object]) -> None:
    """Does a job, and says what comes of it, in lines.

    Raises:
        MreError: as the job does.
        DataError: if weights that were brought in differ from PyTorch.
    """
    match job:
        case ConvertSpec():
            report = convert(job)
            for name, error in report.relative_error.items():
                say(f"{name}: relative difference to PyTorch {error:.1e}")
            if not report.fits_pytorch:
                raise DataError(f"{job.dst}: differs from PyTorch by more than rounding")
        case MakeToy():
            write_dataset(job.out, job.settings)
        case PrepareSpec():
            say(str(prepare(job)))
        case CacheSpec():
            say(str(cache(job)))
        case Train():
            job.save()
            train(job.config, job.run, log=say)
        case ExportSpec():
            export(job)
        case JudgedSuite():
            rows = job.evaluate()
            check_complete(rows)
            for line in job.summary(rows)[:3]:
                say(line)
