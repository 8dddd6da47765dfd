"""What reads an instruction where the text encoder does not: SmartEdit's encoder, with a memory.

A sweep over rewards, or several seeds, ask for one picture and one instruction again and again; the
language model reads them once.
"""

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from PIL import Image

from mre_jax.editing.program import InstructionStates
from mre_jax.errors import ConfigError
from mre_jax.smartedit.instruction_encoder import InstructionEncoder
from mre_jax.smartedit.reply import ReplySettings
from mre_jax.smartedit.templates import Templates
from mre_jax.weights.load import Model
from mre_jax.weights.tokens import Tokenizer

REPLIES = ("teacher_forced", "sampled")
"""Whether the language model is given the template's reply, or writes one of its own."""

_KEPT = 128
"""Edits whose states are kept: 0.6 MB each at the released sizes."""

_Key = tuple[str, ...]


class InstructionReader:
    """SmartEdit's encoder for the edits of a pipeline, which reads nothing twice.

    What it keeps is of the weights as they are: when they change, it begins anew.

    Args:
        encoder: what makes the states.

    Attributes:
        encoder: the same.
        read: how many pictures with their instructions it has read.
    """

    def __init__(self, encoder: InstructionEncoder):
        self.encoder = encoder
        self.read = 0
        self._kept: OrderedDict[_Key, InstructionStates] = OrderedDict()
        self._weights: list[weakref.ref[jax.Array]] = []

    @classmethod
    def of_model(
        cls, model: Model, tokenizer: Tokenizer, templates: Templates | None, reply: str
    ) -> "InstructionReader | None":
        """The reader of a model; None where the text encoder reads the instructions.

        Args:
            tokenizer: of the text encoder.
            templates: in the place of the model's own.
            reply: one of `REPLIES`.

        Raises:
            ConfigError: if a model without language model is given templates or a kind of reply, or
                the QFormer's states are not as many as the text encoder's.
            DataError: as `InstructionEncoder`.
        """
        if reply not in REPLIES:
            raise ConfigError(f"reply {reply!r} is not one of {', '.join(REPLIES)}")
        if model.instruction_encoder is None:
            if templates is not None or reply != REPLIES[0]:
                raise ConfigError(
                    f"{model.origin} has no language model: leave templates and reply out"
                )
            return None
        states = model.instruction_encoder.qformer.config.query_length
        if states != tokenizer.length:
            raise ConfigError(
                f"{model.origin}: its QFormer makes {states} states of an instruction, and its "
                f"text encoder {tokenizer.length} of the empty prompt; take both from one release"
            )
        encoder = InstructionEncoder(
            model.instruction_encoder,
            model.files,
            templates=templates,
            reply=ReplySettings() if reply == "sampled" else None,
            name=model.origin,
        )
        return cls(encoder)

    @property
    def is_split(self) -> bool:
        """Whether devices hold parts of the language model, and not copies."""
        weights = jax.tree.leaves(nnx.state(self.encoder.encoder.llm))
        return not all(weight.is_fully_replicated for weight in weights)

    @property
    def settings(self) -> dict[str, str]:
        """What decides the states besides the weights."""
        sampled = self.encoder.replies is not None
        return {"templates": self.encoder.hash, "reply": REPLIES[sampled]}

    def __call__(
        self,
        images: Sequence[Image.Image],
        instructions: Sequence[str],
        seeds: Sequence[int],
        item_ids: Sequence[str],
    ) -> InstructionStates:
        """The states of each edit, on the host; see `InstructionEncoder.conditions`."""
        self._begin_anew_with_other_weights()
        pixels = self.encoder.clip_pixels(images)
        keys = [
            (hashlib.sha256(one.tobytes()).hexdigest(), text, *self.encoder.drawn_by(seed, item))
            for one, text, seed, item in zip(pixels, instructions, seeds, item_ids, strict=True)
        ]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        places = {key: place for place, key in enumerate(keys) if key not in found}
        if places:
            rows = list(places.values())
            made: Any = self.encoder.conditions(
                pixels[rows],
                [instructions[row] for row in rows],
                [seeds[row] for row in rows],
                [item_ids[row] for row in rows],
            )
            arrays = [np.asarray(part) for part in made]
            found |= {
                key: InstructionStates(*(part[row] for part in arrays))
                for row, key in enumerate(places)
            }
            self.read += len(places)
        self._keep(found)
        chosen = [found[key] for key in keys]
        return InstructionStates(*(np.stack(part) for part in zip(*chosen, strict=True)))

    def _keep(self, found: dict[_Key, InstructionStates]) -> None:
        for key, states in found.items():
            self._kept[key] = states
            self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def _begin_anew_with_other_weights(self) -> None:
        leaves = jax.tree.leaves(nnx.state(self.encoder.encoder))
        known = [reference() for reference in self._weights]
        if len(known) != len(leaves) or any(a is not b for a, b in zip(known, leaves, strict=True)):
            self._kept.clear()
            self._weights = [weakref.ref(leaf) for leaf in leaves]
