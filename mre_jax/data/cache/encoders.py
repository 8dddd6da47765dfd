"""The frozen encoders of a model: their hashes, and the program that runs them for a cache.

The program takes the examples of a batch one by one, so that an example's numbers depend neither on
the batch's size nor on the number of devices; four pictures at a time keep a device busy. What
SmartEdit has between an instruction and the UNet runs in a program of its own, likewise.
"""

import functools
import hashlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from etils import epath
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float32, Int32, UInt8

from mre_jax.data.cache.description import EncoderHashes
from mre_jax.errors import ConfigError
from mre_jax.io.devices import batch_mesh, copied, on_parts, split, split_longest
from mre_jax.io.tensor_hash import TensorHash, tensor_hash
from mre_jax.models.clip_text import CLIPTextModel
from mre_jax.models.vae import AutoencoderKL
from mre_jax.smartedit.instruction_encoder import (
    TEMPLATES_FILE,
    TOKENIZER_FILE,
    InstructionEncoder,
)
from mre_jax.smartedit.templates import Templates
from mre_jax.weights.files.folder import SMARTEDIT
from mre_jax.weights.files.source import TensorSource
from mre_jax.weights.load import encoder_of, load_instruction_encoder
from mre_jax.weights.lora import Loras
from mre_jax.weights.model import PretrainedModel
from mre_jax.weights.names.rule import load
from mre_jax.weights.opening import model_at
from mre_jax.weights.tokens import Tokenizer

# What a VAE encodes with: one whose decoder alone was trained further gives the same latents.
_ENCODING = ("encoder.", "quant_conv.")
_PROBES = (
    "",
    "make it snow",
    "Turn the old man's hat into a bright-red umbrella, please!",
    "The instruction was followed; but 3 of 10 details (e.g. the café's sign) were lost.",
    "None; None; None",
    "".join(map(chr, range(32, 127))),
)


class CacheEncoders:
    """The networks that a cache stands for, with a copy of the weights on every device.

    Attributes:
        hashes: hashes of the weights and the tokenizer.
        tokenizer: None without texts.
        devices: how many share a batch.
        instructions: reads instructions and pictures in the text encoder's place; None without
            texts, and of another editor than a SmartEdit.
    """

    def __init__(
        self,
        model: epath.PathLike,
        *,
        text: bool,
        base: epath.PathLike | None = None,
        lora: Loras = (),
        templates: Templates | None = None,
        split_llm: bool = False,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Loads them; what had to be changed or assumed is said in warnings.

        Args:
            model, base, lora: model; see `model_at`.
            text: whether texts are encoded too.
            templates: of a SmartEdit's prompts, in the place of the model's own.
            split_llm: whether each device holds a part of a SmartEdit's language model.
            devices: devices that share the work; by default all of this host.

        Raises:
            ConfigError: if there are templates and the model is no SmartEdit.
            DataError: if the model cannot be read, or has no tokenizer for the texts.
        """
        self._mesh = batch_mesh(devices)
        self.devices = self._mesh.size
        self.tokenizer: Tokenizer | None = None
        self.instructions: InstructionEncoder | None = None
        with model_at(
            model, base=base, lora=lora, components=_components(text), smartedit=text
        ) as opened:
            for note in opened.notes:
                warnings.warn(f"{model}: {note}", stacklevel=3)
            self.hashes = hashes_of(opened)
            if text:
                self.tokenizer = opened.tokenizer()
            loaded: list[Any] = [
                load(part.network(), part.source, placement=copied(self._mesh))
                for part in map(opened.components.__getitem__, _components(text))
            ]
            if self.hashes.smartedit is not None:
                encoder = load_instruction_encoder(
                    opened,
                    placement=copied(self._mesh),
                    llm_placement=self._part if split_llm else None,
                )
                self.instructions = InstructionEncoder(
                    encoder,
                    opened.files,
                    templates=templates,
                    mesh=None if split_llm else self._mesh,
                    name=str(model),
                )
                self.hashes = self.hashes._replace(prompts=self.instructions.hash)
            elif templates is not None:
                raise ConfigError(
                    f"templates are a SmartEdit's, and {model} is none or its texts are not "
                    "cached; leave --templates out, or cache the texts too (--text)"
                )
        self._vae_config = loaded[0].config
        self._graphs, self._states = zip(*map(nnx.split, loaded), strict=True)
        self._width = loaded[1].config.hidden_size if text else 0

    def _part(self, _: str, weight: jax.ShapeDtypeStruct) -> jax.sharding.Sharding:
        """Where a weight is of a language model that the devices share."""
        return split_longest(self._mesh, weight.shape)

    def latents(self, resolution: int) -> tuple[int, int, int]:
        """Height, width and channels of the latents of square pictures."""
        side = resolution // self._vae_config.downscale
        return side, side, self._vae_config.latent_channels

    @property
    def downscale(self) -> int:
        """Pixels per latent along each side."""
        return self._vae_config.downscale

    @property
    def text_width(self) -> int:
        """Of a text state; 0 without texts."""
        return self._width

    @property
    def texts(self) -> tuple[str, ...]:
        """Which texts the text encoder reads."""
        if self.tokenizer is None:
            return ()
        return ("instruction", "reward_text") if self.instructions is None else ("reward_text",)

    def __call__(
        self, pixels: UInt8[np.ndarray, "b 2 H W 3"], ids: Int32[np.ndarray, "b n t"] | None
    ) -> dict[str, Float32[Array, "b ..."]]:
        """Starts the encoding of a batch, whose size the devices divide.

        Args:
            pixels: original and edited picture.
            ids: tokens of `texts`; None without them.

        Returns:
            The fields of `Cached` but those of `instructions`; latents of the picture and of its
            mirror image, [b 2 h w c], of a SmartEdit of the picture alone, [b 1 h w c].
        """
        inputs = jax.device_put((pixels, ids), split(self._mesh))
        mirrored = self.instructions is None
        return _encode(
            self._states, *inputs, graphs=self._graphs, mesh=self._mesh, mirrored=mirrored
        )


def tokenize_quietly(
    tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[Int32[np.ndarray, "b t"], int]:
    """Token ids, and how many of the texts had to be cut, instead of a warning for each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return tokenizer(texts), len(caught)


def _components(text: bool) -> tuple[str, ...]:
    return ("vae", "text_encoder") if text else ("vae",)


def hashes_of(model: PretrainedModel) -> EncoderHashes:
    """What identifies the encoders of a model, whatever its layout.

    Args:
        model: an open model; one without a text encoder has the hash of its VAE alone. Of a
            SmartEdit that is open with all its parts every tensor is read.

    Raises:
        DataError: if its weights cannot be read, or it has no tokenizer.
    """
    vae = model.components["vae"].source
    chosen = (name for name in vae.tensors if name.startswith(_ENCODING))
    hashes = EncoderHashes(_digest(vae, chosen))
    if "text_encoder" not in model.components:
        return hashes
    source = model.components["text_encoder"].source
    tokenizer = model.tokenizer()
    ids, _ = tokenize_quietly(tokenizer, _PROBES)
    return hashes._replace(
        text_encoder=_digest(source, source.tensors),
        tokenizer=hashlib.sha256(np.asarray(ids, "<i4").tobytes()).hexdigest(),
        **_smartedit_hashes(model),
    )


def _smartedit_hashes(model: PretrainedModel) -> dict[str, str]:
    parts = {name: model.components[name] for name in SMARTEDIT if name in model.components}
    if not parts:
        return {}
    digest = TensorHash()
    for part in parts.values():
        for name in sorted(part.source.tensors):
            digest.update(f"{part.name}.{name}", part.source.read(name))
    tokenizer = model.files.get(TOKENIZER_FILE, b"")
    digest.update(TOKENIZER_FILE, np.frombuffer(tokenizer, np.uint8))
    hashes = {"smartedit": digest.hexdigest()}
    if TEMPLATES_FILE in model.files:
        abstract = encoder_of({name: part.network() for name, part in parts.items()})
        hashes["prompts"] = InstructionEncoder(abstract, model.files, name=model.origin).hash
    return hashes


def _digest(source: TensorSource, names: Iterable[str]) -> str:
    return tensor_hash((name, source.read(name)) for name in sorted(names))


@functools.partial(jax.jit, static_argnames=("graphs", "mesh", "mirrored"))
def _encode(
    states: Any,
    pixels: UInt8[Array, "b 2 H W 3"],
    ids: Int32[Array, "b n t"] | None,
    *,
    graphs: Any,
    mesh: Mesh,
    mirrored: bool,
) -> dict[str, Float32[Array, "b ..."]]:
    def part(states: Any, pixels: Array, ids: Array | None) -> dict[str, Array]:
        networks = list(map(nnx.merge, graphs, states))
        pictures = functools.partial(_encode_pictures, networks[0], mirrored=mirrored)
        found = _one_by_one(pictures, pixels)
        if ids is not None:
            found |= _one_by_one(functools.partial(_encode_texts, networks[1]), ids)
        return found

    return on_parts(part, mesh)(states, pixels, ids)


def _one_by_one(encode: Callable[[Array], dict[str, Array]], rows: Array) -> dict[str, Array]:
    """A loop, over a single row too: XLA would unroll that one, and round otherwise."""
    looped = rows if len(rows) > 1 else jnp.repeat(rows, 2, axis=0)
    return jax.tree.map(lambda found: found[: len(rows)], jax.lax.map(encode, looped))


def _encode_pictures(
    vae: AutoencoderKL, pixels: UInt8[Array, "2 H W 3"], *, mirrored: bool
) -> dict[str, Array]:
    images = pixels.astype(jnp.float32) / 127.5 - 1
    both = jnp.stack([images, images[:, :, ::-1]] if mirrored else [images], axis=1)
    moments = vae.encode(rearrange(both, "p m H W c -> (p m) H W c"))
    mean, logvar = (rearrange(part, "(p m) h w c -> p m h w c", p=2) for part in moments)
    return {"original": mean[0], "edited_mean": mean[1], "edited_logvar": logvar[1]}


def _encode_texts(text_encoder: CLIPTextModel, ids: Int32[Array, "n t"]) -> dict[str, Array]:
    """Of the instruction and the reward text, or of the latter alone."""
    states, pooled, _ = text_encoder(ids)
    reward = {"reward_states": states[-1], "reward_pooled": pooled[-1]}
    return reward if len(ids) == 1 else {"instruction_states": states[0], **reward}
