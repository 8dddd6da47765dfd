import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.diffusion.noise import Stream, item_keys, stream_keys
from mre_jax.errors import ConfigError
from mre_jax.models.splice import image_token_states, splice_image
from mre_jax.smartedit.prompt import PromptSizes, PromptWriter
from mre_jax.smartedit.reply import (
    ReplySampler,
    ReplySettings,
    sample_reply,
    teacher_forced_states,
)
from mre_jax.smartedit.templates import Pair, Templates
from tests.parity import relative_error
from tests.smartedit.speaker import speaker, state_width
from tests.smartedit.tiny_tokenizer import tiny_tokenizer

PATCHES = 3
TEMPLATES = Templates("s", (Pair("Draw [cap]:", "car is [img]."),))
SIZES = PromptSizes(text_tokens=48, patches=PATCHES)
INSTRUCTIONS = ["red", "blue house in the rain"]
ITEMS = ["a", "b"]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer(image_tokens=3)


@pytest.fixture(scope="module")
def prompts(tokenizer):
    """Asked and given."""
    writer = PromptWriter(tokenizer, TEMPLATES, SIZES)
    return tuple(writer.edits(INSTRUCTIONS, ITEMS, [0, 0], reply=reply) for reply in (False, True))


@pytest.fixture(scope="module")
def features(tokenizer):
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, PATCHES, state_width(tokenizer))))


def _keys(seeds=(0, 0), items=ITEMS):
    return stream_keys(item_keys(seeds, items), Stream.REPLY)


def _sample(model, asked, features, tokenizer, keys=None, **settings):
    settings = ReplySettings(**{"max_new_tokens": 12, **settings})
    return jax.jit(lambda a, f, k: sample_reply(model, a, f, k, tokenizer, settings))(
        asked, features, _keys() if keys is None else keys
    )


def test_the_states_of_a_sampled_reply_are_those_of_the_same_reply_given(
    tokenizer, prompts, features
):
    asked, given = prompts
    model = speaker(tokenizer, prompts)
    expected = teacher_forced_states(model, given, features)
    reply = _sample(model, asked, features, tokenizer, temperature=0.0)
    assert reply.complete.all()
    assert relative_error(reply.states, expected) < 1e-5
    assert relative_error(expected[0], expected[1]) > 1e-3
    for row in range(2):
        length = asked.lengths[row]
        written = given.input_ids[row, length : given.lengths[row] - 1].tolist()
        assert reply.ids[row, : len(written)].tolist() == written
        assert not reply.ids[row, len(written) :].any()


def test_forced_states_are_of_the_picture_the_text_and_the_reply_so_far(
    tokenizer, prompts, features
):
    _, given = prompts
    model = speaker(tokenizer, prompts)
    embedded = np.array(model.model.embed_tokens(jnp.asarray(given.input_ids)))
    for row, start in enumerate(given.image_start):
        embedded[row, start : start + PATCHES] = features[row]
    states = model.model(jnp.asarray(embedded))
    for row in range(2):
        expected = states[row][jnp.asarray(given.state_positions[row])]
        forced = teacher_forced_states(model, given, features)
        assert jnp.array_equal(forced[row], expected)
    assert relative_error(teacher_forced_states(model, given, -features), forced) > 1e-4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda t: (t.image_ids[0], t.image_ids[2], 9.0),  # leaves one out
        lambda t: (t.image_ids[1], t.image_ids[1], 9.0),  # says one twice
        lambda t: (t.image_ids[1], t.eos_id, 9.0),  # ends too early
        lambda t: (t.image_ids[1], t.encode("x", start=False)[0], 9.0),  # never comes to an end
    ],
)
def test_a_reply_without_its_image_tokens_in_order_is_incomplete(
    tokenizer, prompts, features, wrong
):
    model = speaker(tokenizer, prompts, wrong(tokenizer))
    reply = _sample(model, prompts[0], features, tokenizer, temperature=0.0)
    assert not reply.complete.any()


def test_a_reply_that_is_cut_is_incomplete(tokenizer, prompts, features):
    asked, given = prompts
    model = speaker(tokenizer, prompts)
    needed = int(given.lengths[0] - asked.lengths[0]) - 1
    for tokens, complete in ((needed, True), (needed - 1, False)):
        reply = _sample(model, asked, features, tokenizer, temperature=0.0, max_new_tokens=tokens)
        assert reply.complete.tolist() == [complete] * 2


@pytest.fixture(scope="module")
def wavering(tokenizer, prompts):
    """Ends after the first image token about as often as it goes on."""
    first = tokenizer.image_ids[0]
    return speaker(tokenizer, prompts, (first, tokenizer.eos_id, 4.0))


def test_a_sampled_reply_is_its_items_own(tokenizer, prompts, features, wavering):
    asked, _ = prompts
    many = [f"item {number}" for number in range(24)]

    def repeated(array):
        return np.repeat(np.asarray(array)[:1], len(many), axis=0)

    rows = type(asked)(*map(repeated, asked))
    replies = _sample(wavering, rows, repeated(features), tokenizer, _keys([5] * 24, many))
    complete = np.asarray(replies.complete)
    assert 4 <= complete.sum() <= 20
    some = [7, 3, 19]
    few = type(asked)(*(field[some] for field in rows))
    alone = _sample(
        wavering, few, repeated(features)[some], tokenizer, _keys([5] * 3, [many[n] for n in some])
    )
    assert np.array_equal(alone.ids, np.asarray(replies.ids)[some])
    other = _sample(wavering, rows, repeated(features), tokenizer, _keys([6] * 24, many))
    assert not np.array_equal(other.complete, complete)


def test_temperature_divides_the_logits(tokenizer, prompts, features):
    """exp(4 / temperature) to 1 is the chance of going on; the states' axis has length 1 here."""
    first = tokenizer.image_ids[0]
    model = speaker(tokenizer, prompts, (first, tokenizer.eos_id, 3.9))
    items = [f"{number}" for number in range(40)]
    asked = type(prompts[0])(*(np.repeat(field[:1], 40, axis=0) for field in prompts[0]))
    shown = jnp.repeat(features[:1], 40, axis=0)
    cold = _sample(model, asked, shown, tokenizer, _keys([0] * 40, items), temperature=1e-3)
    warm = _sample(model, asked, shown, tokenizer, _keys([0] * 40, items), temperature=0.7)
    assert cold.complete.all() and not warm.complete.all()


def test_a_spoilt_reply_is_tried_again_and_then_given(tokenizer, prompts, features, wavering):
    asked, given = prompts
    settings = ReplySettings(max_new_tokens=12)
    expected = teacher_forced_states(wavering, given, features)
    sampler = ReplySampler(wavering, tokenizer, settings)
    fallen = 0
    for number in range(8):
        items = [f"{number} {item}" for item in ITEMS]
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            states = sampler(asked, given, features, [1, 1], items)
        fallen += len(warned)
        assert all("its template's reply is taken" in str(one.message) for one in warned)
        # This reply is the template's whenever it is complete.
        assert relative_error(states, expected) < 1e-5
    assert sampler.sampled == 16
    assert sampler.teacher_forced == fallen
    assert 0 < sampler.teacher_forced < sampler.retried < 16


def test_a_model_that_never_draws_takes_the_templates_replies(tokenizer, prompts, features):
    asked, given = prompts
    first = tokenizer.image_ids[0]
    model = speaker(tokenizer, prompts, (first, tokenizer.eos_id, 20.0))
    sampler = ReplySampler(model, tokenizer, ReplySettings(max_new_tokens=12))
    with pytest.warns(UserWarning, match="item [ab]: .*2 times") as warned:
        states = sampler(asked, given, features, [0, 0], ITEMS)
    assert len(warned) == 2
    assert (sampler.sampled, sampler.retried, sampler.teacher_forced) == (2, 2, 2)
    forced = jax.jit(lambda g, f: teacher_forced_states(model, g, f))(given, features)
    assert relative_error(states, forced) < 1e-6


def test_more_tokens_than_the_decoder_has_positions_are_refused(tokenizer, prompts, features):
    model = speaker(tokenizer, prompts)
    with pytest.raises(ConfigError, match="max_position_embeddings"):
        _sample(model, prompts[0], features, tokenizer, max_new_tokens=96)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -0.1}, r"temperature -0\.1 must be at least 0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"max_new_tokens": 0}, "max_new_tokens 0 must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        ReplySettings(**changes)


def test_a_picture_is_spliced_and_states_are_taken_by_row():
    text = jnp.zeros((2, 6, 2), jnp.bfloat16)
    shown = jnp.arange(1.0, 13).reshape(2, 3, 2)
    spliced = splice_image(text, shown, jnp.array([1, 3]))
    assert spliced.dtype == jnp.bfloat16
    assert spliced[..., 0].tolist() == [[0, 1, 3, 5, 0, 0], [0, 0, 0, 7, 9, 11]]
    taken = image_token_states(spliced, jnp.array([[1, 2], [5, 0]]))
    assert taken.dtype == jnp.float32
    assert taken[..., 0].tolist() == [[1, 3], [11, 0]]
