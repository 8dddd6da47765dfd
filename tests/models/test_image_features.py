"""SmartEdit's features of the image in the UNet: after its first convolution, before the reward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.models.bim import BIM, BIMConfig, resized
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.reward import FORMS
from tests.models.tiny_unet import (
    TINY,
    abstract_unet,
    channels_last,
    make_batch,
    make_unet,
    run,
    tiny_config,
    tiny_reward,
)
from tests.parity import load_torch, randomize_torch, relative_error

SIZE = (6, 4)
WIDTH = TINY["block_out_channels"][0]


def _features(seed=3):
    values = np.random.default_rng(seed).normal(size=(2, *SIZE, WIDTH))
    return jnp.asarray(values, jnp.float32)


def test_output_equals_diffusers_with_a_hook_on_its_first_convolution():
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    theirs = randomize_torch(diffusers.UNet2DConditionModel(**TINY))
    ours = load_torch(make_unet(tiny_config()), theirs.state_dict())
    batch, features = make_batch(tiny_config(), *SIZE), _features()
    added = torch.from_numpy(np.array(features)).permute(0, 3, 1, 2)
    hook = theirs.conv_in.register_forward_hook(lambda module, inputs, output: output + added)
    with torch.no_grad():
        expected = channels_last(theirs(*batch.torch).sample)
        hook.remove()
        plain = channels_last(theirs(*batch.torch).sample)
    got = run(ours, *batch.jax[:3], None, features)
    assert relative_error(got, expected) < 1e-4
    assert relative_error(got, plain) > 1e-2


@pytest.mark.parametrize("form", FORMS)
def test_rewards_see_the_first_map_with_the_features_in_it(form):
    """The convolution, the features, and the reward encoder: a bias of conv_in tells their order.

    Features that are the same everywhere act as a change of that bias, which comes before the
    reward for certain.
    """
    config = tiny_config(tiny_reward(form=form))
    unet, batch = make_unet(config), make_batch(config, *SIZE).jax
    vector = _features()[0, 0, 0]
    got = run(unet, *batch, jnp.broadcast_to(vector, (2, *SIZE, WIDTH)))
    unet.conv_in.bias[...] = unet.conv_in.bias[...] + vector
    assert relative_error(got, run(unet, *batch)) < 1e-4


def test_fresh_heads_leave_the_plain_unet_to_the_bit():
    config = tiny_config()
    sizes = BIMConfig(text_width=24, embedding_dim=16, num_heads=2, mlp_dim=8, out_channels=WIDTH)
    bim = BIM(sizes, compute=Compute(), rngs=make_rngs(0))
    batch = make_batch(config, *SIZE).jax
    patches = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 16)), jnp.float32)
    change, features = run(bim, batch[2], patches)
    unet = make_unet(config)
    states = batch[2] + 0.5 * change
    # One operation at a time: compiled, two programs may round their sums apart.
    got = unet(*batch[:2], states, None, resized(features, *SIZE))
    assert jnp.array_equal(got, unet(*batch[:3]))


@pytest.mark.parametrize("form", FORMS)
def test_zero_reward_outputs_leave_the_editor_without_rewards_to_the_bit(form):
    config = tiny_config(tiny_reward(form=form))
    unet, batch = make_unet(config), make_batch(config, *SIZE).jax
    reward = unet.reward
    # The layers whose outputs the UNet adds to its own.
    last = [reward.encoder.proj_out]
    last += (
        [*reward.linear_2] if form == "paper" else [reward.score_time.linear_2, reward.text_time]
    )
    for layer in last:
        layer.kernel[...] = jnp.zeros_like(layer.kernel[...])
        layer.bias[...] = jnp.zeros_like(layer.bias[...])
    features = _features()
    assert jnp.array_equal(unet(*batch, features), unet(*batch[:3], None, features))


def test_without_features_the_program_is_the_one_it_was():
    """None is no leaf of the condition, and nothing is added."""
    config = tiny_config(tiny_reward())
    graphdef, state = nnx.split(abstract_unet(config))
    sample, timestep, states, reward = make_batch(config, *SIZE).jax

    def conditioned(state, features):
        return nnx.merge(graphdef, state).condition(states, reward, features)

    def denoised(state, condition):
        return nnx.merge(graphdef, state).denoise(sample, timestep, condition)

    shape = jax.ShapeDtypeStruct((2, *SIZE, WIDTH), jnp.float32)
    without, condition = (jax.eval_shape(conditioned, state, given) for given in (None, shape))
    assert without == condition._replace(image_features=None)
    assert len(jax.tree.leaves(condition)) == len(jax.tree.leaves(without)) + 1
    additions = [
        sum("add" in str(line.primitive) for line in jax.make_jaxpr(denoised)(state, given).eqns)
        for given in (without, condition)
    ]
    assert additions[1] == additions[0] + 1


def test_features_are_kept_in_the_compute_dtype():
    config = tiny_config()
    graphdef, state = nnx.split(abstract_unet(config, dtype=jnp.bfloat16))
    states = make_batch(config).jax[2]
    condition = jax.eval_shape(
        lambda state: nnx.merge(graphdef, state).condition(states, None, _features()), state
    )
    assert condition.image_features.dtype == jnp.bfloat16
