"""Distances between sets of pictures by Inception's features: FID at four widths, and KID."""

import dataclasses
import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float32

from mre_jax.errors import DataError
from mre_jax.evaluation.metrics.frechet import Moments, frechet_distance
from mre_jax.evaluation.metrics.inception import FEATURES, InceptionV3
from mre_jax.evaluation.metrics.inception_input import InceptionInput
from mre_jax.evaluation.metrics.kernel import kernel_distance
from mre_jax.evaluation.metrics.preprocess import Picture
from mre_jax.evaluation.metrics.pretrained import (
    Loaded,
    PretrainedNetwork,
    fingerprint,
    open_weights,
    read_network,
)
from mre_jax.weights.files.source import TensorSource, renamed

_CLASSES = 1008
_FEWEST_OF_KID = 2
_FILE = "pt_inception-2015-12-05-6726825d.pth"


@dataclasses.dataclass(frozen=True)
class SetScore:
    """One number about two sets of pictures.

    Attributes:
        metric: "fid_64", "fid_192", "fid_768", "fid_2048" or "kid".
        value: smaller is nearer; 0 is equal, and the kernel distance may be below it.
        standard_error: None for a Fréchet distance.
        n_reference, n_generated: pictures in each set, without which a FID says nothing.
    """

    metric: str
    value: float
    standard_error: float | None
    n_reference: int
    n_generated: int


@dataclasses.dataclass(frozen=True)
class PictureSet:
    """What the distances need of a set of pictures.

    Attributes:
        moments: by the width of the feature.
        features: the last feature of every picture [n d], float32 (8 KB each); None without KID.
    """

    moments: Mapping[int, Moments]
    features: Float32[np.ndarray, "n d"] | None

    @property
    def count(self) -> int:
        """How many pictures."""
        return next(iter(self.moments.values())).count


class InceptionScores(PretrainedNetwork[InceptionV3]):
    """FID and KID between sets of pictures, by PyTorch's copy of the weights of 2015-12-05.

    Its file is the .pth of pytorch-fid or of torch-fidelity, or its tensors as safetensors;
    torchvision's network of the same name is another one.
    """

    @classmethod
    def read(cls, path: Path) -> Loaded[InceptionV3]:
        """See `PretrainedNetwork`."""
        source = _without_classifier(open_weights(path))
        model = read_network(functools.partial(InceptionV3, width=_width(source)), source)
        return Loaded(model, f"Inception v3 FID ({fingerprint(source)})", InceptionInput())

    @staticmethod
    def forward(
        model: InceptionV3, pixels: Float32[Array, "b H W 3"]
    ) -> dict[int, Float32[Array, "b d"]]:
        """See `PretrainedNetwork`."""
        return model(pixels)

    def collect(self, pictures: Iterable[Picture], *, kid: bool = True) -> PictureSet:
        """Runs the network over a set, which is read once and batch by batch.

        Args:
            kid: keep what `compare` needs for the kernel distance; without, the memory does not
                depend on the number of pictures.

        Raises:
            DataError: if there are none, or one cannot be read.
        """
        moments = {width: Moments() for width in FEATURES}
        kept: list[np.ndarray] = []
        for batch in self._images.stream(pictures):
            for width, features in batch.items():
                moments[width].add(features)
            if kid:
                kept.append(batch[FEATURES[-1]])
        if not moments[FEATURES[0]].count:
            raise DataError("there is nothing to measure; give two pictures or more")
        return PictureSet(moments, np.concatenate(kept) if kid else None)

    def compare(
        self,
        reference: PictureSet,
        generated: PictureSet,
        *,
        subsets: int = 100,
        subset_size: int = 1000,
        seed: int = 0,
    ) -> list[SetScore]:
        """FID at every width, and KID where both sets have kept what it needs.

        Args:
            reference, generated: both from `collect` of this object.
            subsets, subset_size, seed: subsets of KID; see `kernel_distance`.

        Raises:
            DataError: for sets of fewer than two pictures, or three for KID.
        """
        counts = reference.count, generated.count
        scores = [
            SetScore(f"fid_{width}", frechet_distance(a, generated.moments[width]), None, *counts)
            for width, a in reference.moments.items()
        ]
        if reference.features is not None and generated.features is not None:
            kid = kernel_distance(
                reference.features,
                generated.features,
                subsets=subsets,
                subset_size=subset_size,
                seed=seed,
            )
            scores.append(SetScore("kid", kid.value, kid.standard_error, *counts))
        return scores


def compare_sets(
    network: InceptionScores, reference: Sequence[Picture], generated: Sequence[Picture]
) -> list[SetScore]:
    """FID at every width, and KID where there are pictures enough; warns where there are not.

    Raises:
        DataError: as `InceptionScores.collect` and `InceptionScores.compare`.
    """
    fewest = min(len(reference), len(generated))
    kid = fewest > _FEWEST_OF_KID
    if not kid:
        warnings.warn(f"no KID: it needs three pictures in each set, not {fewest}", stacklevel=2)
    return network.compare(*(network.collect(p, kid=kid) for p in (reference, generated)))


def _without_classifier(source: TensorSource) -> TensorSource:
    """The tensors that features need, of a file whose classifier shows that it is the right one.

    Raises:
        DataError: for a network of another number of classes, as those trained by others are.
    """
    classifier = source.tensors.get("fc.weight")
    if classifier is not None and classifier.shape[0] != _CLASSES:
        raise DataError(
            f"{source.origin} has {classifier.shape[0]} classes and the network of FID {_CLASSES}; "
            f"give {_FILE}"
        )
    unused = ("fc.weight", "fc.bias")
    return renamed(
        source,
        lambda name: None if name in unused or name.endswith(".num_batches_tracked") else name,
    )


def _width(source: TensorSource) -> int:
    name = "Conv2d_2b_3x3.conv.weight"
    if name not in source.tensors:
        raise DataError(f"{source.origin} lacks {name}, so it is no Inception v3; give {_FILE}")
    return source.tensors[name].shape[0]
