"""Metrics of networks and pixels as result rows; which networks is an option."""

import argparse
import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mre_jax.errors import ConfigError
from mre_jax.evaluation.case import Case, Run
from mre_jax.evaluation.metrics.mask import read_masks
from mre_jax.evaluation.metrics.pixel import MEASURE, MEASURE_OUTSIDE, measure_pair
from mre_jax.evaluation.results import WHOLE_SET, Result, ResultsFile
from mre_jax.io.image import read_image

if TYPE_CHECKING:
    from mre_jax.evaluation.metrics.clip_scores import CLIPScores
    from mre_jax.evaluation.metrics.dino import DINOScores
    from mre_jax.evaluation.metrics.inception_scores import InceptionScores, SetScore


def add_networks(parser: argparse.ArgumentParser, *names: str) -> None:
    """The files of the networks that a suite can use, of "clip", "dino" and "inception"."""
    group = parser.add_argument_group("networks of the metrics, from files of yours")
    for name in names:
        group.add_argument(f"--{name}", help=_HELP[name])
    group.add_argument(
        "--metric-batch-size", type=int, default=16, help="pictures at a time (%(default)s)"
    )


def check_networks(args: argparse.Namespace, *names: str) -> None:
    """Refuses options that leave nothing to measure.

    Raises:
        ConfigError: if none of the networks is named.
    """
    if not any(getattr(args, name) for name in names):
        raise ConfigError(f"nothing to measure with: give {' or '.join(f'--{n}' for n in names)}")


def load_clip(args: argparse.Namespace) -> "CLIPScores | None":
    """CLIP, if its folder is named."""
    from mre_jax.evaluation.metrics.clip_scores import CLIPScores

    size = args.metric_batch_size
    return CLIPScores.from_pretrained(args.clip, batch_size=size) if args.clip else None


def load_dino(args: argparse.Namespace) -> "DINOScores | None":
    """DINO, if its file is named."""
    from mre_jax.evaluation.metrics.dino import DINOScores

    size = args.metric_batch_size
    return DINOScores.from_pretrained(args.dino, batch_size=size) if args.dino else None


def load_inception(args: argparse.Namespace) -> "InceptionScores | None":
    """Inception, if its file is named."""
    from mre_jax.evaluation.metrics.inception_scores import InceptionScores

    size = args.metric_batch_size
    if not args.inception:
        return None
    return InceptionScores.from_pretrained(args.inception, batch_size=size)


class Measured:
    """The edits of one run, and a place to put their values.

    Attributes:
        cases: those that have an edit, in order.
    """

    def __init__(
        self,
        run: Run,
        cases: Sequence[Case],
        edited: Mapping[str, Path],
        results: ResultsFile,
    ):
        self.cases = [case for case in cases if case.id in edited]
        self._absent = [case for case in cases if case.id not in edited]
        self._run = run
        self._edited = edited
        self._results = results

    @property
    def edited(self) -> list[Path]:
        """The edited pictures, one a case."""
        return [self._edited[case.id] for case in self.cases]

    @property
    def originals(self) -> list[Path]:
        """The original pictures, one a case."""
        return [case.original for case in self.cases]

    @property
    def photos(self) -> list[Path]:
        """The original pictures, each once."""
        return list(dict.fromkeys(self.originals))

    @property
    def targets(self) -> list[Path]:
        """The true edits, one a case."""
        return [case.target for case in self.cases if case.target is not None]

    def captions(self, which: str) -> list[str]:
        """A caption of each case; see `Case`."""
        return [case.captions[which] for case in self.cases]

    def add(self, metric: str, values: Iterable[float | None], measure: str) -> None:
        """Writes a row for every case; those without an edit or a value are "missing"."""
        rows = [
            self._run.result(case, self._edited[case.id], metric, status="missing", measure=measure)
            if value is None
            else self._run.result(
                case, self._edited[case.id], metric, value=float(value), measure=measure
            )
            for case, value in zip(self.cases, values, strict=True)
        ]
        absent = [
            self._run.result(case, None, metric, status="missing", measure=measure)
            for case in self._absent
        ]
        self._results.add([*rows, *absent])

    def add_pixels(self, references: Sequence[Path], metrics: Sequence[str]) -> None:
        """Writes metrics of `pixel.METRICS` of every edit beside a reference."""
        values = [
            measure_pair(read_image(edited), read_image(reference), metrics=metrics)
            for edited, reference in zip(self.edited, references, strict=True)
        ]
        for name in metrics:
            self.add(name, [found[name] for found in values], MEASURE)

    def add_outside(self) -> None:
        """Writes L1 and L2 of every edit beside its original, outside the case's masks.

        Nothing if no case has masks. Where one has none, or they leave nothing outside, there is no
        value.
        """
        if not any(case.masks for case in self.cases):
            return
        values = [_outside(case, self._edited[case.id]) for case in self.cases]
        for name in _OUTSIDE:
            self.add(f"{name}_outside", [found.get(name) for found in values], MEASURE_OUTSIDE)

    def add_set(self, scores: Sequence["SetScore"], measure: str) -> None:
        """Writes a row for every value that the whole set has; its size is part of the measure."""
        self._results.add([self._of_set(score, measure) for score in scores])

    def _of_set(self, score: "SetScore", measure: str) -> Result:
        return Result(
            system=self._run.system,
            condition=self._run.condition,
            suite=self._run.suite,
            item=WHOLE_SET,
            group=WHOLE_SET,
            kind="",
            metric=score.metric,
            value=float(score.value),
            passed=None,
            status="ok",
            measure=f"{measure}, n={score.n_reference} and {score.n_generated}",
            prompt_hash="",
            checkpoint=self._run.checkpoint,
            reason="",
            instruction="",
            original="",
            edited="",
        )


def _outside(case: Case, edited: Path) -> dict[str, float]:
    original = read_image(case.original)
    mask = read_masks(case.masks, original.size)
    if not case.masks or mask.all():
        return {}
    return measure_pair(read_image(edited), original, mask, metrics=_OUTSIDE)


def compare_sets(
    network: "InceptionScores", reference: Sequence[Path], edited: Sequence[Path]
) -> list["SetScore"]:
    """FID at every width, and KID where there are pictures enough; warns where there are not."""
    fewest = min(len(reference), len(edited))
    kid = fewest > _FEWEST_OF_KID
    if not kid:
        warnings.warn(f"no KID: it needs three pictures in each set, not {fewest}", stacklevel=2)
    sets = (network.collect(pictures, kid=kid) for pictures in (reference, edited))
    return network.compare(*itertools.islice(sets, 2))


_OUTSIDE = ("l1", "l2")
_FEWEST_OF_KID = 2
_HELP = {
    "clip": "folder of a CLIP of transformers, such as clip-vit-base-patch32",
    "dino": "file of DINO ViT-S/16 weights",
    "inception": "file of the Inception weights of FID, pt_inception-2015-12-05-6726825d.pth",
}
