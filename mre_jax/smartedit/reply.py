"""The states of a reply's image tokens: of the template's reply, or of one that is sampled.

Teacher forcing reads the request and the template's reply in one forward pass, as training does. To
sample, the model writes its own reply; where it writes the image tokens out of order or not all of
them, it tries once more, and then takes the template's reply.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int, Key

from mre_jax.diffusion.noise import Stream, item_keys, stream_keys
from mre_jax.errors import ConfigError
from mre_jax.models.llama import Cache, LlamaForCausalLM
from mre_jax.models.splice import image_token_states, splice_image
from mre_jax.smartedit.prompt import Prompts
from mre_jax.smartedit.tokenizer import Tokenizer

_TRIES = 2
_GREEDY_BELOW = 1e-4


@dataclasses.dataclass(frozen=True)
class ReplySettings:
    """How a reply is sampled; the defaults are the official script's.

    Attributes:
        temperature: logits are divided by it; below 1e-4 the likeliest token is taken.
        max_new_tokens: at which a reply ends, finished or not.

    Raises:
        ConfigError: for a value out of its range.
    """

    temperature: float = 0.7
    max_new_tokens: int = 512

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature {self.temperature} must be at least 0, and finite")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens {self.max_new_tokens} must be at least 1")


class Reply(NamedTuple):
    """What a model wrote.

    Attributes:
        states: of the s image tokens as inputs, after the final RMSNorm; 0 where one is missing.
        ids: the tokens up to the last image token or `</s>`, then padding.
        complete: whether the image tokens are all there, each once and in order.
    """

    states: Float32[Array, "b s d"]
    ids: Int[Array, "b n"]
    complete: Bool[Array, " b"]


class _Writing(NamedTuple):
    """The state of the loop: `token` is the one to be read next, unless the reply is done."""

    number: Array
    token: Int[Array, " b"]
    done: Bool[Array, " b"]
    in_order: Bool[Array, " b"]
    images: Int[Array, " b"]
    ids: Int[Array, "b n"]
    states: Float32[Array, "b s d"]
    cache: Cache


def teacher_forced_states(
    model: LlamaForCausalLM, given: Prompts, image_features: Float[Array, "b n d"]
) -> Float32[Array, "b s d"]:
    """The image tokens' states of the templates' replies, in one forward pass.

    Args:
        given: prompts with their replies.
        image_features: the pictures' patches, projected to the model's width.
    """
    return image_token_states(
        model.model(_embedded(model, given, image_features)), jnp.asarray(given.state_positions)
    )


def sample_reply(
    model: LlamaForCausalLM,
    asked: Prompts,
    image_features: Float[Array, "b n d"],
    keys: Key[Array, " b"],
    tokenizer: Tokenizer,
    settings: ReplySettings,
) -> Reply:
    """Writes replies until each has its image tokens, is spoilt, or ends.

    Args:
        asked: prompts without replies.
        image_features: the pictures' patches, projected to the model's width.
        keys: one per example; a reply depends on its own alone.
        tokenizer: the model's.

    Raises:
        ConfigError: if prompt and reply have more tokens than the model has positions.
    """
    count, length = asked.input_ids.shape
    wanted = asked.state_positions.shape[1]
    rows, lengths = jnp.arange(count), jnp.asarray(asked.lengths)

    def chosen(state: Float[Array, "b d"], number: Array) -> Int[Array, " b"]:
        return _choose(model.logits(state), keys, number, settings.temperature)

    def unfinished(writing: _Writing) -> Array:
        return (writing.number < settings.max_new_tokens) & ~writing.done.all()

    def write(writing: _Writing) -> _Writing:
        number, token, images = writing.number, writing.token, writing.images
        state, cache = model.model.step(token, writing.cache)
        place = token - tokenizer.image_ids[0]
        is_image = ~writing.done & (place >= 0)
        in_order = writing.in_order & (~is_image | (place == images))
        # What is no image token in its order is written beyond the end, where it is dropped.
        at = jnp.where(is_image & in_order, images, wanted)
        states = writing.states.at[rows, at].set(state.astype(jnp.float32), mode="drop")
        images = images + is_image.astype(jnp.int32)
        following = chosen(state, number + 1)
        over = ~in_order | (images == wanted)
        return _Writing(
            number=number + 1,
            token=following,
            done=writing.done | over | (following == tokenizer.eos_id),
            in_order=in_order,
            images=images,
            ids=writing.ids.at[:, number].set(jnp.where(writing.done, tokenizer.pad_id, token)),
            states=states,
            cache=cache,
        )

    states, cache = model.model.prefill(
        _embedded(model, asked, image_features), lengths, length + settings.max_new_tokens
    )
    first = chosen(states[rows, lengths - 1], jnp.int32(0))
    start = _Writing(
        number=jnp.int32(0),
        token=first,
        done=first == tokenizer.eos_id,
        in_order=jnp.ones(count, bool),
        images=jnp.zeros(count, jnp.int32),
        ids=jnp.full((count, settings.max_new_tokens), tokenizer.pad_id, jnp.int32),
        states=jnp.zeros((count, wanted, states.shape[-1]), jnp.float32),
        cache=cache,
    )
    end = jax.lax.while_loop(unfinished, write, start)
    return Reply(end.states, end.ids, end.in_order & (end.images == wanted))


class ReplySampler:
    """Samples replies of a model, tries again where one is spoilt, and counts.

    Args:
        model: its parameters may be sharded; they are read at every call.
        tokenizer: the model's.
        settings: of sampling.

    Attributes:
        sampled: replies that were asked for.
        retried: of them, those whose first reply was spoilt.
        teacher_forced: of them, those whose second one was, too.
    """

    def __init__(self, model: LlamaForCausalLM, tokenizer: Tokenizer, settings: ReplySettings):
        self.sampled = self.retried = self.teacher_forced = 0
        self._model = model
        self._sample = jax.jit(
            functools.partial(_run, sample_reply, tokenizer=tokenizer, settings=settings),
            static_argnums=0,
        )
        self._force = jax.jit(functools.partial(_run, teacher_forced_states), static_argnums=0)

    def __call__(
        self,
        asked: Prompts,
        given: Prompts,
        image_features: Float[Array, "b n d"],
        seeds: Sequence[int],
        item_ids: Sequence[str],
    ) -> Float32[Array, "b s d"]:
        """The image tokens' states of a reply to each prompt, by its seed and id alone.

        A reply that is spoilt twice is replaced by the template's, with a warning.

        Args:
            asked: the prompts without replies.
            given: the same with the templates' replies.
            image_features: the pictures' patches, projected to the model's width.
            seeds: one per item, as `mre_jax.diffusion.noise.item_keys` takes them.
            item_ids: one per item.
        """
        keys = stream_keys(item_keys(seeds, item_ids), Stream.REPLY)
        states = jnp.zeros(given.state_positions.shape + image_features.shape[-1:], jnp.float32)
        missing = np.ones(len(item_ids), bool)
        graph, state = nnx.split(self._model)
        self.sampled += len(item_ids)
        for attempt in range(_TRIES):
            fresh = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, jnp.uint32(attempt))
            reply = self._sample(graph, state, asked, image_features, fresh)
            states = jnp.where(missing[:, None, None], reply.states, states)
            # Not in place: JAX may still be reading it.
            missing = missing & ~np.asarray(reply.complete)
            if not missing.any():
                return states
            if attempt == 0:
                self.retried += int(missing.sum())
        for index in np.flatnonzero(missing).tolist():
            self.teacher_forced += 1
            warnings.warn(
                f"item {item_ids[index]}: the model wrote its image tokens out of order or not all "
                f"of them, {_TRIES} times; its template's reply is taken, as for "
                f"{self.teacher_forced} of {self.sampled} so far",
                stacklevel=2,
            )
        forced = self._force(graph, state, given, image_features)
        return jnp.where(missing[:, None, None], forced, states)


def _run(function: Any, graph: Any, state: Any, *args: Any, **named: Any) -> Any:
    return function(nnx.merge(graph, state), *args, **named)


def _embedded(
    model: LlamaForCausalLM, prompts: Prompts, image_features: Float[Array, "b n d"]
) -> Float[Array, "b t d"]:
    embeddings = model.model.embed_tokens(jnp.asarray(prompts.input_ids))
    return splice_image(embeddings, image_features, jnp.asarray(prompts.image_start))


def _choose(
    logits: Float32[Array, "b v"], keys: Key[Array, " b"], number: Array, temperature: float
) -> Int[Array, " b"]:
    """The token that comes as `number` of each reply."""
    if temperature < _GREEDY_BELOW:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    now = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number.astype(jnp.uint32))
    drawn: Array = jax.vmap(jax.random.categorical)(now, logits / temperature)
    return drawn.astype(jnp.int32)
