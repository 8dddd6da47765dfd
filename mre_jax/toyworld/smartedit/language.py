"""The toy SmartEdit's language model, before it edits: it sees pictures and speaks of them.

LLaMA has read the world's books and LLaVA's pictures before SmartEdit begins. Here two tasks play
their part, by turns: to say what a picture shows, and to say a request again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float32, UInt8

from mre_jax.io.devices import compiler_options
from mre_jax.models.clip_vision import normalised
from mre_jax.models.splice import splice_image
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.smartedit.losses import language_loss
from mre_jax.smartedit.prompt import Prompts, PromptWriter
from mre_jax.toyworld.edits import captions, draw_edits, instructions
from mre_jax.toyworld.pretraining.fit import Fitted, Observed, fit
from mre_jax.toyworld.scene import draw_scenes, render, streams
from mre_jax.toyworld.smartedit.networks import Speaker
from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe
from mre_jax.toyworld.triplets import HELD_OUT, TRAINING, to_bytes
from mre_jax.training.state import Network, Parameters, parameters_of

DESCRIBE = "What does the picture show?"
REPEAT = "Say this again: "
"""Before a request."""

_HELD_OUT_SEED = 988  # not that of a benchmark
_HELD_OUT = 64
_CURVE_EVERY = 500


class Talk(NamedTuple):
    """Conversations about pictures, one about each; a pytree of arrays.

    Attributes:
        prompts: with what the language model is to say as their labels.
        pixels: of the vision tower.
    """

    prompts: Prompts
    pixels: UInt8[np.ndarray, "b s s 3"]


def draw_talk(
    writer: PromptWriter, seed: int, indices: Sequence[int], size: int, *, held_out: bool = False
) -> Talk:
    """The conversations of these indices, each a function of seed and index alone.

    Scenes and requests are those of the triplets of this seed. Even ones describe their picture,
    odd ones repeat their request.

    Args:
        size: pixels along a side of the pictures.
        held_out: scenes that no triplet of training begins with.
    """
    rngs = streams(seed, HELD_OUT if held_out else TRAINING, indices)
    scenes = draw_scenes(rngs, held_out=held_out)
    asked = instructions(scenes, draw_edits(scenes, np.array(indices) % len(EDIT_TYPES), rngs))
    turns = [
        _turns(f"{REPEAT}{request}", request) if index % 2 else _turns(DESCRIBE, description)
        for index, request, description in zip(indices, asked, captions(scenes), strict=True)
    ]
    return Talk(writer.conversations(turns), to_bytes(render(scenes, size)))


def train_speaker(
    recipe: SmartEditRecipe, speaker: Speaker, writer: PromptWriter, folder: Path
) -> Fitted:
    """Trains all of it by the loss of the next token, on one device; resumable.

    Args:
        speaker: fresh.
        writer: of its prompts.
        folder: for checkpoints.

    Returns:
        The trained parameters of the speaker, and a curve: on held-out scenes, the mean loss of a
        token of a description and of a repetition, in nats, by the number of examples seen.
    """
    network = Network.of(speaker)
    size = speaker.vision.config.image_size
    parts = {
        name: draw_talk(writer, _HELD_OUT_SEED, range(first, _HELD_OUT, 2), size, held_out=True)
        for first, name in enumerate(("describing", "repeating"))
    }

    def loss(params: Parameters, talk: Talk, key: Array) -> Float32[Array, ""]:
        del key
        made: Speaker = network.module(params)
        return _loss(made, talk)

    def read(step: int) -> Talk:
        first = step * recipe.batch
        return draw_talk(writer, recipe.seed, range(first, first + recipe.batch), size)

    measure = jax.jit(loss, compiler_options=compiler_options())

    def observe(done: int, params: Parameters) -> Observed:
        losses = {
            name: round(float(measure(params, one, jax.random.key(0))), 4)
            for name, one in parts.items()
        }
        return {"examples": done * recipe.batch, **losses}

    return fit(
        "language",
        parameters_of(speaker),
        loss,
        read,
        steps=recipe.language_steps,
        rate=recipe.language_rate,
        ema_decay=recipe.ema_decay,
        seed=recipe.seed,
        folder=folder,
        observe=observe,
        observe_every=_CURVE_EVERY,
        # Over several, XLA's CPU has hung in the reductions of a plain jit.
        devices=jax.devices()[:1],
    )


def _loss(speaker: Speaker, talk: Any) -> Float32[Array, ""]:
    prompts = talk.prompts
    seen = speaker.projector(speaker.vision(normalised(talk.pixels)))
    words = speaker.llm.model.embed_tokens(prompts.input_ids)
    embedded = splice_image(words, seen, prompts.image_start)
    return language_loss(speaker.llm(embedded), prompts.labels)


def _turns(request: str, reply: str) -> list[dict[str, str]]:
    return [
        {"from": "human", "value": f"<image>\n{request}"},
        {"from": "gpt", "value": reply},
    ]
