"""What the UNet reads: each example's own draws, its conditions, its target and its weight."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.data.batches.batch import Cached
from mre_jax.data.batches.device import to_float
from mre_jax.data.batches.synthetic import SyntheticLoader
from mre_jax.diffusion.loss import min_snr_weight
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.clip_text import CLIPTextConfig, CLIPTextModel
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.vae import AutoencoderKL, VAEConfig
from mre_jax.training.config import LossConfig
from mre_jax.training.inputs import Draw, Encoders, Frozen, make_inputs
from mre_jax.training.state import Network, parameters_of
from tests.training.tiny_run import BATCH, FEATURES, SCALING_FACTOR, TOKENS, make_batch, take

WIDTH = 16
SCHEDULE = NoiseSchedule.stable_diffusion()
VAE = VAEConfig(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4)
TEXT = CLIPTextConfig(
    vocab_size=20,
    hidden_size=WIDTH,
    intermediate_size=WIDTH,
    num_hidden_layers=1,
    num_attention_heads=2,
    max_position_embeddings=TOKENS,
)


@functools.cache
def program(loss=LossConfig(), with_reward=True, schedule=SCHEDULE, encoders=None):  # noqa: B008
    return jax.jit(
        functools.partial(
            make_inputs,
            encoders=encoders or Encoders(None, None, SCALING_FACTOR),
            schedule=schedule,
            loss=loss,
            with_reward=with_reward,
        )
    )


def inputs(batch, **settings):
    null = jnp.asarray(np.full((TOKENS, WIDTH), 7, np.float32))
    made = program(**settings)(batch, Frozen({}, {}, null))
    return jax.tree.map(np.asarray, made)


@pytest.fixture(scope="module")
def batch():
    return make_batch(3, WIDTH)


@pytest.fixture(scope="module")
def made(batch):
    return inputs(batch)


def equal(one, two):
    return jax.tree.all(jax.tree.map(np.array_equal, one, two))


@pytest.mark.parametrize("rows", [[7, 0, 5, 3, 1, 2, 6, 4], [5], [2, 3], [0, 1, 2, 3]])
def test_an_example_draws_the_same_in_any_company(batch, made, rows):
    """Else accumulation, a pod's size or the order of the data would change the training."""
    alone = inputs(take(batch, rows))
    np.testing.assert_array_equal(alone.timesteps, made.timesteps[rows])
    np.testing.assert_array_equal(alone.target, made.target[rows])
    np.testing.assert_allclose(alone.sample, made.sample[rows], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(alone.text, made.text[rows])


def test_examples_of_all_devices_draw_as_on_one(batch, made):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    spread = inputs(jax.device_put(batch._replace(positions=None), split))
    np.testing.assert_array_equal(spread.timesteps, made.timesteps)
    np.testing.assert_array_equal(spread.target, made.target)


def test_steps_and_examples_draw_differently(batch, made):
    other = inputs(make_batch(4, WIDTH))
    assert not np.isclose(made.target, other.target).any(axis=(1, 2, 3)).all()
    assert len({tuple(row.flat) for row in made.target}) == BATCH
    assert len(set(made.timesteps)) > BATCH // 2


def test_the_edited_picture_gets_noise_and_the_original_does_not(batch, made):
    """The equations of InstructPix2Pix, from each example's own key."""
    keys = jax.random.wrap_key_data(jnp.asarray(batch.key_data))
    abar = SCHEDULE.alphas_cumprod
    for row in range(BATCH):

        def normal(draw, row=row):
            return np.asarray(jax.random.normal(jax.random.fold_in(keys[row], draw), (64,)))

        cached = jax.tree.map(lambda x, row=row: x[row].astype(np.float32), batch.cached)
        noise = normal(Draw.NOISE).reshape(4, 4, 4)
        spread = np.exp(0.5 * cached.edited_logvar)
        latents = cached.edited_mean + spread * normal(Draw.POSTERIOR).reshape(4, 4, 4)
        alpha = abar[made.timesteps[row]]
        noisy = np.sqrt(alpha) * SCALING_FACTOR * latents + np.sqrt(1 - alpha) * noise
        original = np.zeros_like(noisy) if batch.drop_image[row] else cached.original
        np.testing.assert_allclose(made.sample[row, ..., :4], noisy, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(made.sample[row, ..., 4:], original)
        np.testing.assert_allclose(made.target[row], noise, rtol=1e-5, atol=1e-6)


def test_conditions_that_are_dropped(batch, made):
    assert batch.drop_text.any()
    assert batch.drop_image.any()
    assert (made.text[batch.drop_text] == 7).all()
    np.testing.assert_array_equal(
        made.text[~batch.drop_text], batch.cached.instruction_states[~batch.drop_text]
    )


def test_smartedits_features_come_to_the_latents_grid_and_are_never_dropped(batch, made):
    """By PyTorch's rule of bilinear weights, written out for 3 to 4."""
    given = make_batch(3, WIDTH, image_features=FEATURES)
    assert given.drop_text.any() and given.drop_image.any()
    read = inputs(given)
    rows = np.float32([[1, 0, 0], [3 / 8, 5 / 8, 0], [0, 5 / 8, 3 / 8], [0, 0, 1]])
    features = given.cached.image_features.astype(np.float32)
    want = np.einsum("yp,xq,bpqc->byxc", rows, rows, features)
    assert read.image_features.dtype == np.float32
    np.testing.assert_allclose(read.image_features, want, rtol=1e-5, atol=1e-6)
    assert made.image_features is None
    np.testing.assert_array_equal(read.text, made.text)
    np.testing.assert_allclose(read.sample, made.sample, rtol=1e-6, atol=1e-6)


def test_a_plain_run_reads_no_reward(batch):
    assert inputs(batch, with_reward=False).reward is None


def test_rewards_are_dropped_by_the_example_and_never_made_up(batch):
    always = inputs(batch, loss=LossConfig(reward_dropout=1.0)).reward
    assert not always.present.any()
    half = functools.partial(inputs, loss=LossConfig(reward_dropout=0.5))
    kept = np.concatenate([half(make_batch(step, WIDTH)).reward.present for step in range(30)])
    assert not kept[2::BATCH].any(), "an example without a reward has got one"
    assert 0.4 < np.delete(kept, np.s_[2::BATCH]).mean() < 0.6
    rows = [6, 1]
    np.testing.assert_array_equal(
        half(take(batch, rows)).reward.present, half(batch).reward.present[rows]
    )


def test_v_is_predicted_where_the_schedule_says_so(batch, made):
    schedule = dataclasses.replace(SCHEDULE, prediction_type="v_prediction")
    asked = inputs(batch, schedule=schedule)
    abar = SCHEDULE.alphas_cumprod[made.timesteps][:, None, None, None]
    noisy, noise = made.sample[..., :4], made.target
    latents = (noisy - np.sqrt(1 - abar) * noise) / np.sqrt(abar)
    expected = np.sqrt(abar) * noise - np.sqrt(1 - abar) * latents
    np.testing.assert_allclose(asked.target, expected, rtol=1e-3, atol=1e-3)


def test_weights_of_timesteps_and_scores_multiply(batch, made):
    assert (made.weight == 1).all()
    loss = LossConfig(min_snr_gamma=5.0, score_weighting="linear")
    snr = np.asarray(min_snr_weight(SCHEDULE, jnp.asarray(made.timesteps), 5.0))
    score = np.where(batch.present, batch.scores.mean(1) / 2.5, 1)
    np.testing.assert_allclose(inputs(batch, loss=loss).weight, snr * score, rtol=1e-6)


def filled(make):
    """A network with small random weights."""
    module = nnx.eval_shape(make)
    rng = np.random.default_rng(0)
    nnx.update(
        module,
        jax.tree.map(
            lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), nnx.state(module)
        ),
    )
    return module


@pytest.fixture(scope="module")
def encoders():
    vae = filled(lambda: AutoencoderKL(VAE, compute=Compute(), rngs=make_rngs(0)))
    text = filled(lambda: CLIPTextModel(TEXT, compute=Compute(), rngs=make_rngs(0)))
    return vae, text


def test_cached_examples_are_those_of_the_pictures_and_texts(encoders):
    """To the rounding of the cache, 2e-3 in float16."""
    vae, text = encoders
    pictures = SyntheticLoader(4, resolution=8, tokens=TOKENS, vocabulary=20).batch(0)
    networks = Encoders(Network.of(vae), Network.of(text), SCALING_FACTOR)
    null = jnp.zeros((TOKENS, WIDTH))
    frozen = Frozen(parameters_of(vae), parameters_of(text), null)
    encoded = program(encoders=networks)(pictures, frozen)

    original = vae.encode(to_float(jnp.asarray(pictures.original)))
    edited = vae.encode(to_float(jnp.asarray(pictures.edited)))
    instruction, reward = (
        text(jnp.asarray(x)) for x in (pictures.instruction, pictures.reward_text)
    )
    rounded = jax.tree.map(
        lambda x: np.asarray(x, np.float16),
        Cached(
            original.mode(),
            edited.mean,
            edited.logvar,
            instruction.last_hidden_state,
            reward.last_hidden_state,
            reward.pooler_output,
        ),
    )
    bare = pictures._replace(original=None, edited=None, instruction=None, reward_text=None)
    read = program()(bare._replace(cached=rounded), Frozen({}, {}, null))
    assert equal(read.timesteps, encoded.timesteps)
    assert equal(read.target, encoded.target)
    for ours, theirs in zip(jax.tree.leaves(read), jax.tree.leaves(encoded), strict=True):
        one, two = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
        assert np.abs(one - two).max() <= 2e-3 * max(1, np.abs(two).max())

    latents_only = pictures._replace(
        original=None, edited=None, cached=Cached(*rounded[:3], None, None, None)
    )
    text_only = Encoders(None, networks.text_encoder, SCALING_FACTOR)
    mixed = program(encoders=text_only)(latents_only, frozen._replace(vae={}))
    assert equal(mixed.sample, read.sample)
    np.testing.assert_allclose(mixed.text, encoded.text, rtol=1e-6, atol=1e-6)


def test_a_batch_that_cannot_be_encoded_is_a_mistake_of_the_caller(batch):
    pictures = SyntheticLoader(4, resolution=8, tokens=TOKENS, vocabulary=20).batch(0)
    with pytest.raises(ValueError, match="pictures or the VAE"):
        inputs(pictures)
    with pytest.raises(ValueError, match="no text encoder"):
        inputs(batch._replace(cached=batch.cached._replace(instruction_states=None)))
