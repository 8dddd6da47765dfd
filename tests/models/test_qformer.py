import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import ConfigError
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.qformer import QFormer, QFormerConfig
from tests.models.tiny_unet import run
from tests.parity import load_torch, relative_error, torch_shapes

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.models.smartedit_reference import QFORMER, QFormerReference, normal  # noqa: E402


def _make(config=QFORMER, **compute):
    return QFormer(config, compute=Compute(**compute), rngs=make_rngs(0))


@pytest.fixture(scope="module")
def pair():
    """Ours and PyTorch's with the same weights."""
    theirs = QFormerReference()
    return load_torch(_make(), theirs.official()), theirs


def test_states_equal_pytorch_with_and_without_a_mask(pair):
    ours, theirs = pair
    states, mask = normal(3, 9, 16), np.arange(9) % 3 == np.arange(3)[:, None]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(states))
        masked = theirs(torch.from_numpy(states), torch.from_numpy(mask))
    assert relative_error(run(ours, jnp.asarray(states)), expected) < 1e-5
    assert relative_error(run(ours, jnp.asarray(states), jnp.asarray(mask)), masked) < 1e-5


def test_the_32_shown_of_512_states_are_as_32_alone(pair):
    """Training shows the whole reply with a mask, an edit the states of the image's tokens."""
    ours, _ = pair
    states = normal(2, 512, 16)
    shown = np.stack([np.arange(400, 432), np.arange(300, 332)])
    mask = np.zeros((2, 512), bool)
    np.put_along_axis(mask, shown, True, axis=1)
    alone = np.take_along_axis(states, shown[..., None], axis=1)
    masked = run(ours, jnp.asarray(states), jnp.asarray(mask))
    assert relative_error(masked, run(ours, jnp.asarray(alone))) < 1e-5


def test_an_example_without_a_shown_state_attends_to_all_alike(pair):
    ours, theirs = pair
    states = normal(2, 5, 16)
    mask = np.array([[False] * 5, [True] * 5])
    got = np.asarray(run(ours, jnp.asarray(states), jnp.asarray(mask)))
    equal = np.broadcast_to(states[:1].mean(1, keepdims=True), (1, 5, 16))
    # Equal weights of values are the value of the mean, which is what equal states have too.
    with torch.no_grad():
        expected = theirs(torch.from_numpy(equal.copy()))
    assert relative_error(got[:1], expected) < 1e-5


def test_training_drops_anew_with_each_key_and_an_edit_nothing(pair):
    ours, _ = pair
    states = jnp.asarray(normal(2, 5, 16))
    keys = jax.random.split(jax.random.key(0))
    first, plain = run(ours, states, None, keys), run(ours, states)
    other = run(ours, states, None, keys[::-1])
    assert relative_error(first, other) > 0.1 and relative_error(first, plain) > 0.1
    # An example's draw is its own key's, whatever stands beside it.
    swapped = run(ours, states[::-1], None, keys[::-1])
    assert relative_error(swapped[::-1], first) < 1e-5
    without = QFormer(
        dataclasses.replace(QFORMER, dropout=0.0), compute=Compute(), rngs=make_rngs(0)
    )
    nnx.update(without, nnx.state(ours))
    assert jnp.array_equal(run(without, states, None, keys), plain)


def test_what_is_dropped_leaves_the_mean():
    from mre_jax.models.qformer import _Dropout

    ones = jnp.ones((400, 100))
    drop = _Dropout(0.1, jax.random.split(jax.random.key(1), 400))
    first, second = drop(ones), drop(ones)
    for made in (first, second):
        assert abs(float(made.mean()) - 1) < 0.01
        assert abs(float((made == 0).mean()) - 0.1) < 0.01
    assert not jnp.array_equal(first, second)


@pytest.mark.parametrize(("width", "published"), [(4096, 64_955_904), (5120, 69_674_496)])
def test_full_size_has_the_published_parameters_and_names(width, published):
    shapes = torch_shapes(nnx.eval_shape(lambda: _make(QFormerConfig(encoder_width=width))))
    queries = shapes.pop("query_tokens")
    assert queries == (1, 77, 768)
    assert sum(map(math.prod, shapes.values())) == published
    attending = {name.split(".")[2] for name in shapes if "crossattention" in name}
    assert attending == {"0", "2", "4"}
    # The file has these, its queries, position_ids, mm_projector (2) and lm_head beside them.
    assert len(shapes) + 1 + 1 + 2 + 1 == 133


def test_rematerialisation_changes_no_gradient(pair):
    states = jnp.asarray(normal(2, 5, 16))
    keys = jax.random.split(jax.random.key(3))

    def gradient(remat):
        module = _make(dataclasses.replace(QFORMER, num_hidden_layers=1), remat=remat)
        graph, state = nnx.split(module)

        def loss(state):
            return jnp.sum(nnx.merge(graph, state)(states, None, keys)[..., 0] ** 2)

        assert ("remat" in str(jax.make_jaxpr(loss)(state))) == remat
        return jax.jit(jax.grad(loss))(state)

    for a, b in zip(*map(jax.tree.leaves, (gradient(True), gradient(False))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_bfloat16_stays_close_to_float32():
    states = jnp.asarray(normal(2, 5, 16))
    half = run(_make(dtype=jnp.bfloat16), states)
    assert half.dtype == jnp.bfloat16
    assert relative_error(half, run(_make(), states)) < 2e-2


def test_a_config_survives_config_json():
    assert QFormerConfig.from_dict(QFORMER.to_dict()) == QFORMER


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads 5 does not divide hidden_size 12"),
        ({"query_length": 0}, "query_length 0 is not supported"),
        ({"dropout": 1.0}, "dropout 1.0 is not supported"),
        ({"model_type": "blip_2_qformer"}, "model_type 'blip_2_qformer' is not supported"),
    ],
)
def test_configs_of_other_networks_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        QFormerConfig.from_dict({**QFORMER.to_dict(), **changes})
