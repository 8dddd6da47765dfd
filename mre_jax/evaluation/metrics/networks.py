"""The networks of metrics, by the files that hold them.

A network is a class with `from_pretrained(path, batch_size=)` and a `measure` for rows of results.
A further one is its file, an entry of `NETWORKS`, and a field of `Networks` and of a spec.
"""

import dataclasses
import importlib
from typing import TYPE_CHECKING

from etils import epath

from mre_jax.errors import ConfigError

if TYPE_CHECKING:
    from mre_jax.evaluation.metrics.clip_scores import CLIPScores
    from mre_jax.evaluation.metrics.dino import DINOScores
    from mre_jax.evaluation.metrics.inception_scores import InceptionScores
    from mre_jax.evaluation.metrics.lpips import LPIPS

NETWORKS = {
    "clip": ("clip_scores", "CLIPScores"),
    "dino": ("dino", "DINOScores"),
    "inception": ("inception_scores", "InceptionScores"),
    "lpips": ("lpips", "LPIPS"),
}
"""Module and class, imported where they are asked for."""


@dataclasses.dataclass(frozen=True)
class Networks:
    """Networks that are loaded; None stands for those that are not asked for."""

    clip: "CLIPScores | None" = None
    dino: "DINOScores | None" = None
    inception: "InceptionScores | None" = None
    lpips: "LPIPS | None" = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Files of the networks that a suite can measure with.

    Attributes:
        clip: folder of a CLIP of transformers, such as clip-vit-base-patch32.
        metric_batch_size: pictures at a time.

    Example:
        >>> NetworkSpec().load()
        Networks(clip=None, dino=None, inception=None, lpips=None)
    """

    clip: epath.PathLike | None = None
    metric_batch_size: int = 16

    def load(self) -> Networks:
        """The networks whose files are named.

        Raises:
            MreError: as their `from_pretrained`.
        """
        loaded = {}
        for name, (module, made) in NETWORKS.items():
            if path := getattr(self, name, None):
                network = getattr(importlib.import_module(f"{__package__}.{module}"), made)
                loaded[name] = network.from_pretrained(path, batch_size=self.metric_batch_size)
        return Networks(**loaded)

    def check_some(self) -> None:
        """Refuses a spec that leaves nothing to measure.

        Raises:
            ConfigError: if no network is named.
        """
        names = [name for name in NETWORKS if hasattr(self, name)]
        if not any(getattr(self, name) for name in names):
            flags = " or ".join(f"--{name}" for name in names)
            raise ConfigError(f"nothing to measure with: give {flags}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairNetworkSpec(NetworkSpec):
    """Networks that compare an edit with another picture.

    Attributes:
        dino: file of DINO ViT-S/16 weights.
    """

    dino: epath.PathLike | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetNetworkSpec(NetworkSpec):
    """Networks that compare sets of pictures, too.

    Attributes:
        inception: file of the Inception weights of FID, pt_inception-2015-12-05-6726825d.pth.
    """

    inception: epath.PathLike | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedNetworkSpec(NetworkSpec):
    """Networks that compare what lies in a mask with a text, and the rest with the original.

    Attributes:
        clip: folder of a CLIP of transformers; published numbers are of clip-vit-large-patch14.
        lpips: folder of squeezenet1_1-b8a52dc0.pth and of LPIPS's squeeze.pth, or one file of both.

    Example:
        >>> MaskedNetworkSpec(clip="clip-vit-large-patch14").lpips is None
        True
    """

    lpips: epath.PathLike | None = None
