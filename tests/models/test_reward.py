import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import ConfigError
from mre_jax.models import layers
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.reward import RELEASED_NAMES, RewardConfig, RewardEncoder, make_reward
from mre_jax.models.unet import UNet, UNetConfig
from tests.models.tiny_unet import (
    abstract_unet,
    channels_last,
    make_batch,
    make_unet,
    run,
    tiny_config,
    tiny_reward,
)
from tests.parity import load_torch, randomize_torch, relative_error, torch_shapes

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from mre_jax.pytorch import RewardUNet2DConditionModel  # noqa: E402
from tests.pytorch import released_reference  # noqa: E402

FORMS = ("paper", "released")
OFF = ({"score": False, "text": False}, {"attention": False, "addition": False})


def our_name(released: str) -> str:
    for ours, theirs in RELEASED_NAMES.items():
        if released.startswith(f"{theirs}."):
            return ours + released.removeprefix(theirs)
    return released


def test_released_names_and_shapes_are_those_of_the_public_checkpoint():
    path = Path(__file__).with_name("released_unet_tensors.json")
    published = {
        our_name(name): tuple(shape) for name, shape in json.loads(path.read_text()).items()
    }
    config = UNetConfig(reward=RewardConfig(form="released"))
    ours = torch_shapes(abstract_unet(config))
    assert ours == published
    assert len(ours) == 720
    assert sum(int(np.prod(shape)) for shape in ours.values()) == 864_559_364


def test_released_form_equals_its_reference_in_pytorch():
    reward = tiny_reward(form="released")
    config = tiny_config(reward)
    unet = randomize_torch(diffusers.UNet2DConditionModel(**tiny_config().to_dict()))
    tensors = released_reference.random_tensors(released_reference.released_shapes(24, 16, 24))
    released = {our_name(name): tensor for name, tensor in tensors.items()}
    ours = load_torch(make_unet(config), unet.state_dict() | released)
    batch = make_batch(config, 5, 6)
    scores, _, pooled = batch.torch_reward.values()
    with torch.no_grad():
        expected = channels_last(
            released_reference.forward(
                unet, tensors, *batch.torch, scores, pooled, heads=4, groups=8
            )
        )
    assert relative_error(run(ours, *batch.jax), expected) < 1e-4


def test_paper_form_equals_pytorch_also_with_a_condition_kept_and_reordered():
    config = tiny_config(tiny_reward())
    theirs = randomize_torch(RewardUNet2DConditionModel(**config.to_dict()))
    ours = load_torch(make_unet(config), theirs.state_dict())
    batch = make_batch(config, 5, 6)
    with torch.no_grad():
        expected = channels_last(theirs(*batch.torch, **batch.torch_reward).sample)
    sample, timestep, states, reward = batch.jax
    reverse = lambda tree: jax.tree.map(lambda x: x[::-1], tree)  # noqa: E731
    condition = run(ours, reverse(states), reverse(reward), method="condition")
    output = run(ours, sample, timestep, reverse(condition), method="denoise")
    assert relative_error(output, expected) < 1e-4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"score": False},
        {"text": False},
        {"attention": False},
        {"addition": False},
        {"perspectives": ("following", "quality")},
    ],
    ids=str,
)
def test_features_equal_pytorch(form, switches):
    config = tiny_config(tiny_reward(form=form, **switches))
    theirs = randomize_torch(RewardUNet2DConditionModel(**config.to_dict()))._reward[0]
    ours = make_reward(config, compute=Compute(), rngs=make_rngs(0))
    load_torch(ours, theirs.state_dict())
    batch = make_batch(config)
    with torch.no_grad():
        tokens, time, blocks = theirs(*batch.torch_reward.values())
        expected = list(blocks)
        if time is not None:
            expected.append(time)
        if tokens is not None:
            attention = theirs.encoder.attention
            expected += [attention.key(tokens), attention.value(tokens)]
    features = run(ours, batch.jax[3])
    made = [*(features.blocks or ())]
    made += [] if features.time is None else [features.time]
    made += [x.reshape(*x.shape[:2], -1) for x in features.tokens or ()]
    assert len(made) == len(expected) > 0
    for a, b in zip(made, expected, strict=True):
        assert relative_error(a, b) < 1e-5


def test_reward_encoder_equals_its_reference_in_pytorch():
    tensors = released_reference.random_tensors(released_reference.released_shapes(24, 16, 24))
    prefix = "reward.encoder."
    mine = {our_name(name): tensor for name, tensor in tensors.items()}
    mine = {k.removeprefix(prefix): v for k, v in mine.items() if k.startswith(prefix)}
    encoder = RewardEncoder(tiny_config(), 4, False, compute=Compute(), rngs=make_rngs(0))
    load_torch(encoder, mine)
    x, tokens = torch.randn(2, 16, 3, 5), torch.randn(2, 4, 16)
    expected = channels_last(released_reference.encode_reward(tensors, x, tokens, 4, 8))
    keys = encoder.key_value(jnp.asarray(tokens))
    ours = run(encoder, jnp.asarray(channels_last(x)), keys, jnp.ones(2, bool))
    assert relative_error(ours, expected) < 1e-5


class Predictors:
    """Noise predictions by one network with a reward and without, for any weights."""

    def __init__(self, config):
        sample, timestep, states, self.reward = make_batch(config).jax
        self.graphdef, self.random = nnx.split(make_unet(config))
        self._predict = jax.jit(
            lambda state, reward: nnx.merge(self.graphdef, state)(sample, timestep, states, reward)
        )

    def plain(self, state):
        return np.asarray(self._predict(state, None))

    def rewarded(self, state, present=(True, True)):
        reward = self.reward._replace(present=jnp.array(present))
        return np.asarray(self._predict(state, reward))


@pytest.fixture(scope="module")
def predictors():
    return Predictors(tiny_config(tiny_reward()))


def test_a_fresh_paper_form_is_exactly_the_pretrained_editor(predictors):
    fresh = make_reward(tiny_config(tiny_reward()), compute=Compute(), rngs=make_rngs(0))
    state = nnx.merge_state(predictors.random, nnx.State({"reward": nnx.state(fresh)}))
    # To the bit within one program; another program may round in another order.
    without = predictors.rewarded(state, present=(False, False))
    np.testing.assert_array_equal(predictors.rewarded(state), without)
    assert relative_error(without, predictors.plain(state)) < 1e-6


def test_a_seed_gives_the_same_editor_with_and_without_reward(monkeypatch):
    def key_itself(key, shape, dtype):
        return jnp.asarray(np.full(shape, jax.random.key_data(key)[0] % 10_000, dtype))

    monkeypatch.setattr(layers, "_kernel_init", lambda zero, std=None: key_itself)

    def parameters(config):
        unet = UNet(config, compute=Compute(), rngs=make_rngs(0))
        return dict(nnx.to_flat_state(nnx.state(unet)))

    plain, rewarded = parameters(tiny_config()), parameters(tiny_config(tiny_reward()))
    assert len(plain) < len(rewarded)
    for path, weight in plain.items():
        np.testing.assert_array_equal(weight[...], rewarded[path][...])


def test_an_absent_reward_leaves_its_example_to_the_plain_editor(predictors):
    random = predictors.random
    plain, both = predictors.plain(random), predictors.rewarded(random)
    second = predictors.rewarded(random, present=(False, True))
    assert relative_error(second[:1], plain[:1]) < 1e-6
    assert relative_error(second[1:], both[1:]) < 1e-6
    assert relative_error(both, plain) > 0.01
    neither = predictors.rewarded(random, present=(False, False))
    assert relative_error(neither, plain) < 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_features_of_an_absent_reward_are_zero(form):
    config = tiny_config(tiny_reward(form=form))
    reward = make_reward(config, compute=Compute(), rngs=make_rngs(0))
    inputs = make_batch(config).jax[3]._replace(present=jnp.array([True, False]))
    for array in jax.tree.leaves(run(reward, inputs)):
        assert not array[1].any()


@pytest.mark.parametrize("off", OFF, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_with_everything_off_program_and_weights_are_the_plain_editor(form, off):
    def program(config):
        graphdef, state = nnx.split(abstract_unet(config))
        call = lambda state, *batch: nnx.merge(graphdef, state)(*batch)  # noqa: E731
        return state, str(jax.make_jaxpr(call)(state, *batch))

    batch = make_batch(tiny_config()).jax
    config = tiny_config(tiny_reward(form=form, **off))
    assert not config.reward.enabled
    state, text = program(config)
    plain_state, plain_text = program(tiny_config())
    assert jax.tree.structure(state) == jax.tree.structure(plain_state)
    assert text == plain_text


@pytest.mark.parametrize(
    ("form", "switch", "gone"),
    [
        ("paper", "score", ["score"]),
        ("paper", "attention", ["encoder", "linear_1"]),
        ("paper", "addition", ["linear_2"]),
        ("released", "score", ["score_token", "score_time"]),
        ("released", "text", ["text_token", "text_time"]),
        ("released", "attention", ["encoder", "score_token", "text_token"]),
        ("released", "addition", ["score_time", "text_time"]),
    ],
)
def test_a_part_that_is_off_has_no_parameters(form, switch, gone):
    def parts(**switches):
        config = tiny_config(tiny_reward(form=form, **switches))
        made = nnx.eval_shape(lambda: make_reward(config, compute=Compute(), rngs=make_rngs(0)))
        return {name.split(".")[0] for name in torch_shapes(made)}

    assert parts() - parts(**{switch: False}) == set(gone)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"form": "papr"}, "reward.form 'papr'"),
        ({"perspectives": ["folowing"]}, "folowing"),
        ({"perspectives": []}, "reward.perspectives"),
        ({"scores": True}, "reward.scores"),
    ],
)
def test_a_wrong_setting_is_named(values, named):
    with pytest.raises(ConfigError, match=named):
        RewardConfig.from_dict(values)


def test_settings_survive_json():
    config = RewardConfig(form="released", addition=False, perspectives=("quality",))
    assert RewardConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
