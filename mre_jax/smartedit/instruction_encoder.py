"""What SmartEdit's UNet is told of a picture and an instruction: prompts, and one program.

The program takes one picture at a time, on each device, so that an example's numbers depend neither
on the batch's size nor on its companions: five hundred tokens keep a device busy by themselves.
"""

import dataclasses
import functools
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from mre_jax.errors import DataError
from mre_jax.io.devices import on_parts, split
from mre_jax.io.image import to_array
from mre_jax.models.clip_vision import normalised
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.smartedit_encoder import EditFeatures, SmartEditEncoder
from mre_jax.smartedit.prompt import Prompts, PromptSizes, PromptWriter
from mre_jax.smartedit.reply import ReplySampler, ReplySettings
from mre_jax.smartedit.templates import Templates
from mre_jax.smartedit.tokenizer import IMAGE_TOKENS, Tokenizer
from mre_jax.weights.llm_tokenizer import LLM_TOKENIZER

TOKENIZER_FILE = LLM_TOKENIZER
TEMPLATES_FILE = "llm_tokenizer/templates.txt"
"""Where a model folder holds the templates that it was trained with; the official release has none
in its files."""

_RELEASED_VOCABULARY = 32035
_SHOWN = 60


class InstructionEncoder:
    """From pictures and instructions to the condition of SmartEdit's UNet.

    The template of an edit is drawn by its instruction's text alone, so that several seeds, a sweep
    over rewards and a cache for training read one prompt.

    Args:
        encoder: the networks; they are read at every call, so that they may be moved or trained.
        files: the small files of the model folder by path: the language model's tokenizer, and the
            model's own templates where it has them.
        templates: in the place of the model's own. Where neither are there this project's are
            taken; with a warning for a network of the official release's vocabulary, as for any
            words of this project's there.
        text_tokens: window of the prompt's text, as in training; at most what the language model
            has positions for beside the picture.
        reply: how the language model writes replies of its own, by an edit's seed and id; None
            gives it the templates' replies (teacher forcing), as training does.
        mesh: devices that share the pictures, each with a copy of the weights; None runs where the
            weights are, which may be sharded.
        name: how errors and warnings call the model.

    Attributes:
        hash: SHA-256 of tokenizer, templates and window, which with the weights decide the result.
        tokenizer: the language model's.
        templates: which are used.
        replies: the sampler of replies, which counts them; None under teacher forcing.

    Raises:
        ConfigError: if the tokenizer is another network's, or the templates do not fit.
        DataError: if the tokenizer is missing or damaged, or the model's templates are.
    """

    def __init__(
        self,
        encoder: SmartEditEncoder,
        files: Mapping[str, bytes],
        *,
        templates: Templates | None = None,
        text_tokens: int = PromptSizes.text_tokens,
        reply: ReplySettings | None = None,
        mesh: Mesh | None = None,
        name: str = "the model",
    ):
        self.encoder = encoder
        self.mesh = mesh
        llm, vision = encoder.llm.config, encoder.vision.config
        self._side = vision.image_size
        self._writer = prompt_writer(
            files,
            llm,
            vision.num_positions - 1,
            templates=templates,
            text_tokens=text_tokens,
            name=name,
        )
        self.tokenizer, self.templates = self._writer.tokenizer, self._writer.templates
        self.hash = _hash(files[TOKENIZER_FILE], self.tokenizer, self._writer)
        self.replies: ReplySampler | None = None
        if reply is not None:
            room = llm.max_position_embeddings - self._writer.sizes.length
            tokens = min(reply.max_new_tokens, room)
            reply = dataclasses.replace(reply, max_new_tokens=tokens)
            self.replies = ReplySampler(encoder.llm, self.tokenizer, reply)

    def prompts(self, instructions: Sequence[str], *, reply: bool = True) -> Prompts:
        """The prompts of edits, each by its own instruction alone.

        What does not fit the window is left out, as in training; `Prompts.too_long` says where.

        Args:
            instructions: b of them; line breaks are taken out.
            reply: with the template's reply, or ending where the language model is to write one.

        Raises:
            DataError: for an instruction that holds the name of a token or is not Unicode.
        """
        seeds = [0] * len(instructions)
        return self._writer.edits(instructions, instructions, seeds, reply=reply)

    def clip_pixels(self, images: Sequence[Image.Image]) -> UInt8[np.ndarray, "b s s 3"]:
        """`clip_pixels` at this model's size."""
        return clip_pixels(images, self._side)

    def check(self, instruction: str) -> None:
        """Refuses an instruction that `prompts` refuses."""
        self._writer.check("instruction", instruction)

    def drawn_by(self, seed: int, item_id: str) -> tuple[str, ...]:
        """What decides a condition besides picture and instruction: of a reply that is sampled."""
        return () if self.replies is None else (str(seed), item_id)

    def __call__(
        self,
        images: Sequence[Image.Image],
        instructions: Sequence[str],
        seeds: Sequence[int] | None = None,
        item_ids: Sequence[str] | None = None,
    ) -> EditFeatures:
        """`conditions` of pictures.

        Args:
            images: RGB, of any sizes, one per instruction.
        """
        return self.conditions(self.clip_pixels(images), instructions, seeds, item_ids)

    def conditions(
        self,
        pixels: UInt8[np.ndarray, "b s s 3"],
        instructions: Sequence[str],
        seeds: Sequence[int] | None = None,
        item_ids: Sequence[str] | None = None,
    ) -> EditFeatures:
        """The condition of each edit, in the order given; the device may still be at work on it.

        An instruction that is too long is left out with a warning.

        Args:
            pixels: from `clip_pixels`.
            instructions: b of them, at least 1.
            seeds: of the edits; they and the ids count where replies are sampled. 0 by default.
            item_ids: of the edits; empty by default.

        Raises:
            DataError: as `prompts`.
        """
        prompts = self.prompts(instructions)
        for instruction, too_long in zip(instructions, prompts.too_long, strict=True):
            if too_long:
                warnings.warn(
                    f"instruction {instruction[:_SHOWN]!r} does not fit the "
                    f"{self._writer.sizes.text_tokens} tokens of its prompt, and is left out as in "
                    "training: say it in fewer words",
                    stacklevel=2,
                )
        if self.replies is None:
            return self.encode(prompts, pixels)
        asked = self.prompts(instructions, reply=False)
        seeds = seeds or [0] * len(instructions)
        item_ids = item_ids or [""] * len(instructions)
        return self._sampled(self.replies, asked, prompts, pixels, seeds, item_ids)

    def encode(self, prompts: Prompts, pixels: UInt8[np.ndarray, "b s s 3"]) -> EditFeatures:
        """The condition of prompts with their replies, whatever `reply` is."""
        graph, state = nnx.split(self.encoder)
        inputs = (*_read(prompts), pixels)
        step = 1 if self.mesh is None else self.mesh.size
        made = []
        for start in range(0, len(pixels), step):
            rows = [_filled(x[start : start + step], step) for x in inputs]
            if self.mesh is not None:
                rows = jax.device_put(rows, split(self.mesh))
            made.append(_features(state, *rows, graph=graph, mesh=self.mesh))
        whole = [jnp.concatenate(parts)[: len(pixels)] for parts in zip(*made, strict=True)]
        return EditFeatures(*whole)

    def _sampled(
        self,
        replies: ReplySampler,
        asked: Prompts,
        given: Prompts,
        pixels: UInt8[np.ndarray, "b s s 3"],
        seeds: Sequence[int],
        item_ids: Sequence[str],
    ) -> EditFeatures:
        """The same with replies of the language model's own, one after the other."""
        graph, state = nnx.split(self.encoder)
        made = []
        for row in range(len(pixels)):
            one = slice(row, row + 1)
            patches, projected = _see(state, pixels[one], graph=graph)
            both = [Prompts(*(part[one] for part in prompts)) for prompts in (asked, given)]
            states = replies(both[0], both[1], projected, seeds[one], item_ids[one])
            made.append(_condition(state, states, patches, graph=graph))
        return EditFeatures(*(jnp.concatenate(parts) for parts in zip(*made, strict=True)))


def clip_pixels(images: Sequence[Image.Image], side: int = 224) -> UInt8[np.ndarray, "b s s 3"]:
    """Pictures as SmartEdit's vision tower takes them: squashed to a square, bicubic.

    `mre_jax.models.clip_vision.normalised` does the rest on the device.

    Args:
        images: RGB, of any sizes.
        side: pixels of a side, the vision tower's `image_size`.

    Example:
        >>> clip_pixels([Image.new("RGB", (640, 480)), Image.new("RGB", (24, 24))]).shape
        (2, 224, 224, 3)
    """
    squashed = [image.resize((side, side), Image.Resampling.BICUBIC) for image in images]
    return np.stack([to_array(image) for image in squashed])


def prompt_writer(
    files: Mapping[str, bytes],
    llm: LlamaConfig,
    patches: int,
    *,
    templates: Templates | None = None,
    text_tokens: int = PromptSizes.text_tokens,
    name: str = "the model",
) -> PromptWriter:
    """What writes a model's prompts; arguments and errors as those of `InstructionEncoder`.

    Args:
        llm: sizes of the language model.
        patches: of the vision tower; 0 for prompts without a picture.
    """
    tokenizer = _tokenizer(files, llm.vocab_size, name)
    chosen = templates or _templates(files, name)
    if llm.vocab_size == _RELEASED_VOCABULARY:
        chosen.warn_if_own(name)
    room = llm.max_position_embeddings - patches
    return PromptWriter(tokenizer, chosen, PromptSizes(min(text_tokens, room), patches))


def _tokenizer(files: Mapping[str, bytes], vocabulary: int, name: str) -> Tokenizer:
    if TOKENIZER_FILE not in files:
        raise DataError(
            f"{name} has no {TOKENIZER_FILE}; put the tokenizer.model of vicuna v1.1 or LLaMA there"
        )
    data, origin = files[TOKENIZER_FILE], f"{TOKENIZER_FILE} of {name}"
    tokenizer = Tokenizer(data, origin=origin)
    # The release has 32 image tokens; of another network its vocabulary says how many.
    count = IMAGE_TOKENS + vocabulary - tokenizer.size
    if vocabulary == _RELEASED_VOCABULARY or count < 1:
        tokenizer.check_vocabulary(vocabulary)
    return tokenizer if count == IMAGE_TOKENS else Tokenizer(data, image_tokens=count)


def _templates(files: Mapping[str, bytes], name: str) -> Templates:
    if TEMPLATES_FILE in files:
        return Templates.parse(files[TEMPLATES_FILE], f"{TEMPLATES_FILE} of {name}")
    return Templates.default()


def _hash(model: bytes, tokenizer: Tokenizer, writer: PromptWriter) -> str:
    templates = writer.templates
    said = {
        "tokenizer": hashlib.sha256(model).hexdigest(),
        "image_tokens": len(tokenizer.image_ids),
        "system": templates.system,
        "pairs": [[pair.human, pair.gpt] for pair in templates.pairs],
        "text_tokens": writer.sizes.text_tokens,
        "patches": writer.sizes.patches,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _read(prompts: Prompts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the networks read of prompts."""
    return prompts.input_ids, prompts.image_start, prompts.state_positions


def _filled(rows: np.ndarray, count: int) -> np.ndarray:
    """So many rows, the last one repeated."""
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)])


@functools.partial(jax.jit, static_argnames=("graph", "mesh"))
def _features(
    state: Any,
    input_ids: Int[Array, "b n"],
    image_start: Int[Array, " b"],
    state_positions: Int[Array, "b s"],
    pixels: UInt8[Array, "b H W 3"],
    *,
    graph: Any,
    mesh: Mesh | None,
) -> EditFeatures:
    def run(state: Any, ids: Array, start: Array, positions: Array, pixels: Array) -> EditFeatures:
        encoder: SmartEditEncoder = nnx.merge(graph, state)
        return encoder.features(ids, start, positions, normalised(pixels))

    if mesh is not None:
        run = on_parts(run, mesh)
    return run(state, input_ids, image_start, state_positions, pixels)


@functools.partial(jax.jit, static_argnames=("graph",))
def _see(
    state: Any, pixels: UInt8[Array, "b H W 3"], *, graph: Any
) -> tuple[Float[Array, "b n d"], Float[Array, "b n e"]]:
    """The pictures' patches, and as the language model reads them."""
    encoder: SmartEditEncoder = nnx.merge(graph, state)
    patches = encoder.patches(normalised(pixels))
    return patches, encoder.mm_projector(patches)


@functools.partial(jax.jit, static_argnames=("graph",))
def _condition(
    state: Any, image_tokens: Float[Array, "b s d"], patches: Float[Array, "b n e"], *, graph: Any
) -> EditFeatures:
    encoder: SmartEditEncoder = nnx.merge(graph, state)
    return encoder.condition(image_tokens, patches)
