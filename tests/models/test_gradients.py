from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.tiny_unet import (
    channels_last,
    make_batch,
    make_unet,
    tiny_config,
    tiny_reward,
)
from tests.parity import load_torch, randomize_torch, relative_error

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")


class Case(NamedTuple):
    """A tiny reward UNet in PyTorch, and for a batch our loss and gradients."""

    config: Any
    theirs: Any
    batch: Any
    noise: np.ndarray
    loss: jax.Array
    gradients: dict[str, jax.Array]


@pytest.fixture(scope="module")
def case():
    from mre_jax.pytorch import RewardUNet2DConditionModel

    config = tiny_config(tiny_reward())
    theirs = randomize_torch(RewardUNet2DConditionModel(**config.to_dict()))
    batch = make_batch(config)
    noise = np.random.default_rng(1).normal(size=(2, 6, 4, 4)).astype(np.float32)
    unet = load_torch(make_unet(config), theirs.state_dict())
    loss, gradients, _ = loss_and_gradients(unet, batch, noise)
    return Case(config, theirs, batch, noise, loss, gradients)


def loss_and_gradients(unet, batch, noise):
    """The training loss, its gradients by name, and the text of the program."""
    graphdef, state = nnx.split(unet)

    def loss(state):
        return jnp.mean((nnx.merge(graphdef, state)(*batch.jax) - noise) ** 2)

    program = jax.jit(jax.value_and_grad(loss)).trace(state)
    value, gradients = program.lower().compile()(state)
    return value, by_name(gradients), str(program.jaxpr)


def by_name(state):
    return {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}


def test_gradient_of_the_training_loss_equals_pytorch(case):
    theirs, batch = case.theirs, case.batch
    output = channels_last(theirs(*batch.torch, **batch.torch_reward).sample)
    loss = (output - torch.from_numpy(case.noise)).square().mean()
    loss.backward()
    assert relative_error(case.loss, loss) < 1e-5

    named = {name: param.grad for name, param in theirs.named_parameters()}
    expected = by_name(nnx.state(load_torch(make_unet(case.config), named)))
    # Softmax is blind to what all keys share: this gradient is 0 up to rounding on both sides.
    blind = "reward.encoder.attention.key.bias"
    assert float(jnp.abs(case.gradients[blind]).max()) < 1e-6
    errors = {
        name: relative_error(ours, expected[name])
        for name, ours in case.gradients.items()
        if name != blind
    }
    assert max(errors.values()) < 1e-4, max(errors, key=errors.__getitem__)


def test_recomputing_activations_changes_no_value_and_no_gradient(case):
    unet = load_torch(make_unet(case.config, remat=True), case.theirs.state_dict())
    loss, gradients, program = loss_and_gradients(unet, case.batch, case.noise)
    assert "remat" in program
    assert relative_error(loss, case.loss) < 1e-6
    scale = max(float(jnp.abs(x).max()) for x in case.gradients.values())
    for name, kept in case.gradients.items():
        np.testing.assert_allclose(
            gradients[name], kept, rtol=1e-4, atol=1e-6 * scale, err_msg=name
        )
