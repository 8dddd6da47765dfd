"""What a prepared set says of the latents and text states that its records hold.

A cache holds for the plain resize of whole pictures, as it is and mirrored; with SmartEdit's
features, which are of a picture and not of its mirror image, as it is alone. It is known by the
weights that made it, so that training on others refuses it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import ml_dtypes
import numpy as np
from etils import epath

from mre_jax.data.batches.augment import FILTERS, Augmentation
from mre_jax.data.records.manifest import Manifest
from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.reward.text import CUTS, reward_parts

MODES = ("auto", "required", "never")
DTYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
LATENTS = ("original", "edited_mean", "edited_logvar")
"""The fields of `Cached` that are kept of the picture, and of its mirror image."""

KEPT, THUMBNAILS = "kept", "thumbnails"
_KEY = "cache"
_REMEDY = "make it again with 'mre data cache', or read the pictures with data.cache=never"


@dataclasses.dataclass(frozen=True)
class CacheOptions:
    """What a cache shall hold, and how it is made.

    Attributes:
        dtype: dtype of what is kept.
        text: keep the states of instruction and reward text too: 237 kB an example for Stable
            Diffusion 1.5, where latents take 49. Of a SmartEdit the former are what it makes of
            picture and instruction, with its image features beside them: 164 kB more, and latents
            take 25, as nothing is mirrored.
        perspectives: perspectives of the reward text.
        reward_cut: what goes of a reward text that is too long: its end, or of each perspective
            what goes beyond its share.
        resolution: side of the pictures in pixels.
        filter: filter by which they are resized.
        drop_pictures: keep thumbnails of 64 px in the pictures' place.
        batch_size: examples at a time on each device; the cache does not depend on it.
        none_for_top: whether 'None' stands for reward texts of top scores; see `reward_parts`.

    Raises:
        ConfigError: if a number is out of range.
    """

    dtype: str = dataclasses.field(default="float16", metadata={"choices": tuple(DTYPES)})
    text: bool = dataclasses.field(default=False, metadata={"no": True})
    perspectives: tuple[str, ...] = dataclasses.field(
        default=PERSPECTIVES,
        metadata={"metavar": "NAMES", "parse": lambda text: tuple(text.split(","))},
    )
    reward_cut: str = dataclasses.field(default=CUTS[0], metadata={"choices": CUTS})
    resolution: int = 256
    filter: str = dataclasses.field(default="lanczos", metadata={"choices": tuple(FILTERS)})
    drop_pictures: bool = False
    batch_size: int = 8
    none_for_top: bool = dataclasses.field(default=True, metadata={"option": False})

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch size {self.batch_size} of a cache must be at least 1")


class EncoderHashes(NamedTuple):
    """What identifies the frozen encoders of a model.

    Attributes:
        vae: SHA-256 of the weights of the half that encodes.
        text_encoder: SHA-256 of the weights; None if texts do not matter.
        tokenizer: SHA-256 of the token ids of some texts; likewise.
        smartedit: SHA-256 of SmartEdit's own weights and the language model's tokenizer; None of
            another editor.
        prompts: SHA-256 of that tokenizer and the templates; None where the model has none of its
            own.
    """

    vae: str
    text_encoder: str | None = None
    tokenizer: str | None = None
    smartedit: str | None = None
    prompts: str | None = None


@dataclasses.dataclass(frozen=True)
class TextCache:
    """The text states of a cache.

    Attributes:
        text_encoder: hash by `EncoderHashes`.
        tokenizer: hash by `EncoderHashes`.
        tokens: number of tokens of every text.
        width: width of a state.
        none_for_top: whether 'None' stands for texts of top scores.
        perspectives: perspectives of the reward text.
        reward_cut: truncation of the reward text; see `join_rewards`.

    Raises:
        ConfigError: if a perspective is unknown, or the cut.
    """

    text_encoder: str
    tokenizer: str
    tokens: int
    width: int
    none_for_top: bool = True
    perspectives: tuple[str, ...] = PERSPECTIVES
    reward_cut: str = "end"

    def __post_init__(self) -> None:
        if self.reward_cut not in CUTS:
            raise ConfigError(f"reward cut {self.reward_cut!r} must be one of {', '.join(CUTS)}")
        reward_parts([""] * len(PERSPECTIVES), perspectives=self.perspectives)


@dataclasses.dataclass(frozen=True)
class SmartEditCache:
    """What SmartEdit makes of pictures and instructions, in the place of the instructions' states.

    Attributes:
        encoder: hash by `EncoderHashes.smartedit`.
        prompts: hash by `EncoderHashes.prompts`, of the templates that were taken.
        tokens: number of states of every instruction.
        width: width of a state.
        image_features: height, width and channels of v', at the grid of the patches.
    """

    encoder: str
    prompts: str
    tokens: int
    width: int
    image_features: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Cache:
    """The cached features of a set; in the manifest as `settings.cache`.

    Attributes:
        vae: hash by `EncoderHashes`.
        dtype: "float16" or "bfloat16".
        resolution: side of the pictures in pixels.
        filter: filter by which they were resized.
        latents: height, width and channels.
        text: None if no text states are there.
        pictures: "kept", or "thumbnails" where only small ones are left.
        platform: platform of the devices that made it, which round differently.
        smartedit: None of another editor, or if no text states are there.

    Raises:
        ConfigError: if a value is out of range.
    """

    vae: str
    dtype: str
    resolution: int
    filter: str
    latents: tuple[int, int, int]
    text: TextCache | None = None
    pictures: str = KEPT
    platform: str = "cpu"
    smartedit: SmartEditCache | None = None

    def __post_init__(self) -> None:
        Augmentation(self.resolution, filter=self.filter)
        if self.dtype not in DTYPES:
            raise ConfigError(f"cache dtype {self.dtype!r} must be one of {', '.join(DTYPES)}")
        if self.pictures not in (KEPT, THUMBNAILS):
            raise ConfigError(f"cache pictures {self.pictures!r}: want {KEPT} or {THUMBNAILS}")

    @classmethod
    def of(cls, manifest: Manifest) -> "Cache | None":
        """The cache of a set; None if it has none.

        Raises:
            DataError: if the manifest describes something else.
        """
        content = manifest.settings.get(_KEY)
        if content is None:
            return None
        try:
            text = content["text"]
            if text is not None:
                text = TextCache(**{**text, "perspectives": tuple(text["perspectives"])})
            smartedit = content.get("smartedit")
            if smartedit is not None:
                grid = _grid(smartedit["image_features"])
                smartedit = SmartEditCache(**{**smartedit, "image_features": grid})
            typed = {"text": text, "latents": _grid(content["latents"]), "smartedit": smartedit}
            return cls(**{**content, **typed})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{manifest.name}: the manifest's cache is not one of this version ({error}); make "
                "it again with 'mre data cache'"
            ) from None

    def settings(self) -> dict[str, Any]:
        """What `of` reads: entries of a manifest's settings.

        Those of the first editor's are as they were before there was a second.
        """
        content = dataclasses.asdict(self)
        if self.smartedit is None:
            del content["smartedit"]
        return {_KEY: content}

    @property
    def options(self) -> CacheOptions:
        """What gives another set a cache that goes with this one."""
        options = CacheOptions(
            dtype=self.dtype,
            text=self.text is not None,
            resolution=self.resolution,
            filter=self.filter,
        )
        if self.text is None:
            return options
        names = ("perspectives", "reward_cut", "none_for_top")
        return dataclasses.replace(options, **{name: getattr(self.text, name) for name in names})

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by field of `Cached`, in one record; latents have [plain, mirrored] first.

        With SmartEdit's features they have [plain].
        """
        views = 2 if self.smartedit is None else 1
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(LATENTS, (views, *self.latents))
        if self.text is not None:
            states = (self.text.tokens, self.text.width)
            shapes |= {"instruction_states": states, "reward_states": states}
            shapes["reward_pooled"] = (self.text.width,)
        if self.smartedit is not None:
            shapes["instruction_states"] = (self.smartedit.tokens, self.smartedit.width)
            shapes["image_features"] = self.smartedit.image_features
        return shapes

    @property
    def record_bytes(self) -> int:
        """What it adds to a record."""
        size = DTYPES[self.dtype].itemsize
        return sum(int(np.prod(shape)) * size for shape in self.shapes.values())

    def __str__(self) -> str:
        latents = "x".join(map(str, self.latents))
        texts = "no text states"
        if self.text is not None:
            texts = f"text states {self.text.tokens}x{self.text.width} by {_short(self.text)}"
        if self.smartedit is not None:
            grid = "x".join(map(str, self.smartedit.image_features))
            texts += f", image features {grid} by SmartEdit {self.smartedit.encoder[:12]}"
        return (
            f"latents {latents} in {self.dtype} of {self.resolution} px ({self.filter}) by VAE "
            f"{self.vae[:12]}; {texts}; pictures {self.pictures}; {self.record_bytes / 1e3:.1f} kB "
            "an example"
        )


class Set(Protocol):
    """A prepared set, such as a `RecordSource`."""

    path: epath.Path

    @property
    def cache(self) -> Cache | None: ...


def choose_cache(sets: Sequence[Set], mode: str, augmentation: Augmentation) -> Cache | None:
    """The cache that a loader reads; None if it reads pictures.

    Args:
        sets: sets of the loader.
        mode: "auto" reads a cache where there is one, "required" refuses sets without one, "never"
            reads pictures.
        augmentation: augmentation of the loader.

    Raises:
        ConfigError: if a cache that is to be read is missing from some set, differs between sets
            or does not hold for the augmentation; or if pictures are to be read that are not there.
    """
    if mode not in MODES:
        raise ConfigError(f"data.cache={mode!r} must be one of {', '.join(MODES)}")
    if mode == "never" or (mode == "auto" and all(one.cache is None for one in sets)):
        for one in sets:
            if one.cache is not None and one.cache.pictures != KEPT:
                raise ConfigError(
                    f"{one.path}: its pictures were dropped; read it with data.cache=auto"
                )
        return None
    first = sets[0].cache
    for one in sets:
        if one.cache is None:
            raise ConfigError(
                f"{one.path}: no cache in it; make one with 'mre data cache', or read the pictures "
                "of all sets with data.cache=never"
            )
        _check_fits(one, one.cache, augmentation)
        if first is not None and (which := _difference(first, one.cache)):
            raise ConfigError(
                f"{one.path}: its cache has another {which} than that of {sets[0].path}; {_REMEDY}"
            )
    return first


def check_cache(
    sets: Sequence[Set],
    hashes: EncoderHashes,
    *,
    instructions: bool = True,
    none_for_top: bool = True,
    perspectives: Sequence[str] = PERSPECTIVES,
    reward_cut: str = "end",
) -> None:
    """Refuses caches that other weights have made, or of other reward texts.

    Args:
        sets: sets that are read by their cache.
        hashes: `mre_jax.data.cache.encoders.hashes_of` of the model that is trained.
        instructions: whether what is cached of the instructions is read.
        none_for_top, perspectives: arguments of `reward_parts` in the training.
        reward_cut: argument of `join_rewards` in the training.

    Raises:
        ConfigError: naming the set, both hashes or settings, and the remedy.
    """
    # A run on the features of a SmartEdit has nothing that would read pictures in their stead.
    remedy = _REMEDY if hashes.smartedit is None else "make it again with 'mre data cache --text'"
    for one in sets:
        if one.cache is None:
            continue
        pairs: list[tuple[str, str | None, str | None]] = [("VAE", one.cache.vae, hashes.vae)]
        text = one.cache.text
        if text is not None:
            pairs.append(("text encoder", text.text_encoder, hashes.text_encoder))
            pairs.append(("tokenizer", text.tokenizer, hashes.tokenizer))
        if text is not None and instructions:
            smartedit = one.cache.smartedit
            made_by = None if smartedit is None else smartedit.encoder
            pairs.append(("SmartEdit", made_by, hashes.smartedit))
            if smartedit is not None and hashes.prompts is not None:
                pairs.append(("set of templates", smartedit.prompts, hashes.prompts))
        for name, made, wanted in pairs:
            if made != wanted:
                raise ConfigError(
                    f"{one.path}: its cache was made by another {name} "
                    f"({(made or 'none')[:12]}) than this model's ({(wanted or 'none')[:12]}); "
                    f"{remedy}"
                )
        if text is None:
            continue
        for name, kept, asked in (
            ("data.none_for_top", text.none_for_top, none_for_top),
            ("model.reward.perspectives", text.perspectives, tuple(perspectives)),
            ("data.reward_cut", text.reward_cut, reward_cut),
        ):
            if kept != asked:
                raise ConfigError(
                    f"{one.path}: its reward texts were cached with {name}={kept}, not {asked}; "
                    f"{_REMEDY}"
                )


def _check_fits(one: Set, cache: Cache, augmentation: Augmentation) -> None:
    if cache.smartedit is not None and augmentation.flip:
        raise ConfigError(
            f"{one.path}: its cache holds what SmartEdit makes of pictures, not of their mirror "
            f"images, and data.flip is {augmentation.flip:g}; set data.flip=0"
        )
    if augmentation.crops:
        asks = f"resize={augmentation.resize_to}"
        if augmentation.fit == "crop":
            asks = "fit=crop"
        raise ConfigError(
            f"{one.path}: a cache holds whole pictures, and data.{asks} asks for a random crop to "
            f"{augmentation.resolution}; leave the crop out, or read the pictures with "
            "data.cache=never"
        )
    for name in ("resolution", "filter"):
        made, asked = getattr(cache, name), getattr(augmentation, name)
        if made != asked:
            raise ConfigError(
                f"{one.path}: its cache was made with {name}={made}, and data.{name} is {asked}; "
                f"{_REMEDY}"
            )


def _difference(first: Cache, other: Cache) -> str:
    """The first field that keeps two caches from making one batch, or ""."""
    mine, its = dataclasses.asdict(first), dataclasses.asdict(other)
    apart: Mapping[str, Any] = {"pictures": None, "platform": None}
    return next((name for name in mine if name not in apart and mine[name] != its[name]), "")


def _grid(sizes: Sequence[int]) -> tuple[int, int, int]:
    height, width, channels = map(int, sizes)
    return height, width, channels


def _short(text: TextCache) -> str:
    return f"text encoder {text.text_encoder[:12]}"
