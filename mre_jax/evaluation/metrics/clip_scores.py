"""CLIP's metrics: how near pictures and texts are in the space that both share."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float32, Float64
from PIL import Image

from mre_jax.errors import ConfigError
from mre_jax.evaluation.metrics.batched import Batched
from mre_jax.evaluation.metrics.cosine import cosine, difference, unit
from mre_jax.evaluation.metrics.preprocess import Picture, Preprocess
from mre_jax.evaluation.metrics.pretrained import (
    Loaded,
    PretrainedNetwork,
    fingerprint,
    open_weights,
    read_network,
)
from mre_jax.io.json_file import read_object
from mre_jax.models.clip import CLIPConfig, CLIPModel
from mre_jax.models.clip_vision import CLIP_MEAN, CLIP_STD
from mre_jax.weights.files.source import TensorSource, renamed
from mre_jax.weights.tokens import Tokenizer

Scores = Float64[np.ndarray, " n"]


class CLIPScores(PretrainedNetwork[CLIPModel]):
    """Cosines of CLIP's features, one per item, in [-1, 1]; tables show 100 times some of them.

    Its folder is one of transformers, such as that of clip-vit-base-patch32: config.json,
    vocab.json and merges.txt (or tokenizer.json), and model.safetensors or pytorch_model.bin.
    """

    @classmethod
    def read(cls, path: Path) -> Loaded[CLIPModel]:
        """See `PretrainedNetwork`."""
        config = CLIPConfig.from_dict(read_object(path / "config.json"))
        preprocess = preprocess_of(config)
        _check_preprocessor(path / "preprocessor_config.json", preprocess)
        source = _without_positions(open_weights(path))
        model = read_network(functools.partial(CLIPModel, config), source)
        tokenizer = Tokenizer.from_files(_tokenizer_files(path), config.text_config)
        name = f"CLIP {_architecture(config)} ({fingerprint(source)})"
        return Loaded(model, name, preprocess, tokenizer)

    @staticmethod
    def forward(model: CLIPModel, pixels: Float32[Array, "b H W 3"]) -> Float32[Array, "b e"]:
        """See `PretrainedNetwork`."""
        return model.get_image_features(pixels)

    @functools.cached_property
    def _texts(self) -> Batched[np.ndarray]:
        return self._batched(CLIPModel.get_text_features, np.asarray)

    def image_features(self, pictures: Iterable[Picture]) -> Float64[np.ndarray, "n e"]:
        """Features of unit length.

        Raises:
            DataError: if there are none, or one cannot be read.
        """
        return unit(self._images(pictures))

    def text_features(self, texts: Iterable[str]) -> Float64[np.ndarray, "n e"]:
        """Features of unit length; a text that is too long is cut with a warning.

        Raises:
            DataError: if there are none.
        """
        texts, tokenizer = list(texts), self._loaded.tokenizer
        # Not in the threads of Batched: transformers' tokenizers take one call at a time.
        return unit(self._texts(tokenizer(texts, "text") if texts and tokenizer else ()))

    def clip_i(self, generated: Iterable[Picture], targets: Iterable[Picture]) -> Scores:
        """MagicBrush's CLIP-I: generated picture and ground truth.

        Raises:
            DataError: as `image_features`, or for different numbers of both.
        """
        return cosine(self.image_features(generated), self.image_features(targets))

    def clip_t(self, generated: Iterable[Picture], captions: Iterable[str]) -> Scores:
        """MagicBrush's CLIP-T: generated picture and a caption of the ground truth.

        Raises:
            DataError: as `clip_i`.
        """
        return cosine(self.image_features(generated), self.text_features(captions))

    def clip_score(self, pictures: Iterable[Picture], texts: Iterable[str]) -> Scores:
        """CLIPScore as torchmetrics takes it of one pair at a time: 100 max(cos, 0).

        Raises:
            DataError: as `clip_i`.
        """
        return 100 * np.maximum(self.clip_t(pictures, texts), 0)

    def following(self, edited: Iterable[Picture], instructions: Iterable[str]) -> Scores:
        """Table 7's "following": edited picture and instruction. Errors are those of `clip_i`."""
        return self.clip_t(edited, instructions)

    def preserving(self, originals: Iterable[Picture], edited: Iterable[Picture]) -> Scores:
        """Table 7's "preserving": original and edited picture. Errors are those of `clip_i`."""
        return self.clip_i(originals, edited)

    def direction(
        self,
        originals: Iterable[Picture],
        edited: Iterable[Picture],
        original_captions: Iterable[str],
        edited_captions: Iterable[str],
    ) -> Scores:
        """Whether the picture moved as its caption did (Gal et al. 2022, in Emu Edit's metrics).

        The cosine between the difference of the pictures' unit features and that of the captions';
        0 where nothing moved.

        Raises:
            DataError: as `clip_i`.
        """
        pictures = difference(self.image_features(edited), self.image_features(originals))
        captions = difference(
            self.text_features(edited_captions), self.text_features(original_captions)
        )
        return cosine(pictures, captions)


def preprocess_of(config: CLIPConfig) -> Preprocess:
    """What every released CLIP's preprocessor_config.json says, at the size of its network."""
    side = config.vision_config.image_size
    return Preprocess(side, side, CLIP_MEAN, CLIP_STD)


def _without_positions(source: TensorSource) -> TensorSource:
    """Without the buffers 0, 1, 2, ... that older files hold."""
    return renamed(source, lambda name: None if name.endswith(".position_ids") else name)


def _architecture(config: CLIPConfig) -> str:
    width, patch = config.vision_config.hidden_size, config.vision_config.patch_size
    return f"ViT-{_LETTERS.get(width, width)}/{patch}"


def _tokenizer_files(folder: Path) -> Mapping[str, bytes]:
    """The folder's tokenizer where `Tokenizer` looks for it."""
    names = (name for name in _TOKENIZER if (folder / name).is_file())
    return {f"tokenizer/{name}": (folder / name).read_bytes() for name in names}


def _check_preprocessor(path: Path, preprocess: Preprocess) -> None:
    """Refuses pictures other than what is made here; without the file they are the usual ones."""
    given = read_object(path) if path.is_file() else {}
    resize, crop = preprocess.resize, preprocess.crop
    accepted: dict[str, tuple[Any, ...]] = {
        "size": (resize, {"shortest_edge": resize}),
        "crop_size": (crop, {"height": crop, "width": crop}),
        "resample": (int(Image.Resampling.BICUBIC),),
        "image_mean": (list(preprocess.mean),),
        "image_std": (list(preprocess.std),),
    }
    for key, values in accepted.items():
        if given.get(key, values[0]) not in values:
            raise ConfigError(
                f"{path}: {key} {given[key]!r} is not supported; for this network it must be "
                f"{values[-1]!r}"
            )


_LETTERS = {768: "B", 1024: "L"}
_TOKENIZER = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
