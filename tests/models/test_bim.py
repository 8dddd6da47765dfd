import math

import jax.numpy as jnp
import pytest
from flax import nnx

from mre_jax.errors import ConfigError
from mre_jax.models.bim import BIM, BIMConfig, FourierPositions, TwoWayTransformer, resized
from mre_jax.models.layers import Buffer, Compute, make_rngs
from tests.models.tiny_unet import channels_last, run
from tests.parity import load_torch, relative_error, torch_shapes

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.models.smartedit_reference import BIM as TINY  # noqa: E402
from tests.models.smartedit_reference import BIMReference, normal  # noqa: E402

TEXT, PATCHES = normal(2, 5, 12), normal(2, 16, 32, seed=1)


def _make(config=TINY, **compute):
    return BIM(config, compute=Compute(**compute), rngs=make_rngs(0))


@pytest.fixture(scope="module")
def pair():
    """Ours and PyTorch's with the same weights, whose zero heads are random too."""
    theirs = BIMReference()
    return load_torch(_make(), theirs.official()), theirs


@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (5, 7), (12, 6), (2, 3)])
def test_output_equals_pytorch_at_any_grid(pair, grid):
    """There the convolution comes after the resize, as in the official code, and here before."""
    ours, theirs = pair
    with torch.no_grad():
        change, features = theirs(torch.from_numpy(TEXT), torch.from_numpy(PATCHES), *grid)
    output = run(ours, jnp.asarray(TEXT), jnp.asarray(PATCHES))
    assert relative_error(output.text_change, change) < 1e-5
    got = resized(output.image_features, *grid)
    assert relative_error(got, channels_last(features)) < 1e-5


def test_two_way_transformer_equals_pytorch(pair):
    _, theirs = pair
    prefix = "modulate_transformer."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in theirs.official().items()
        if name.startswith(prefix)
    }
    ours = load_torch(TwoWayTransformer(TINY, compute=Compute(), rngs=make_rngs(0)), weights)
    queries, keys, positions = normal(2, 5, 32), normal(2, 12, 32, seed=1), normal(12, 32, seed=2)
    image, places = (torch.from_numpy(x).mT.reshape(-1, 32, 3, 4) for x in (keys, positions[None]))
    with torch.no_grad():
        expected = theirs.modulate_transformer(
            torch.from_numpy(queries)[:, None], image, places.expand(2, -1, -1, -1), None
        )
    got = run(ours, *map(jnp.asarray, (queries, keys, positions)))
    for mine, other in zip(got, expected, strict=True):
        assert relative_error(mine, other[:, 0]) < 1e-5


def test_positions_are_sines_and_cosines_of_x_before_y():
    layer = FourierPositions(4, compute=Compute(), rngs=make_rngs(0))
    layer.positional_encoding_gaussian_matrix[...] = jnp.array([[0.125, 0.0], [0.0, 0.25]])
    got = layer(2, 3)
    assert got.shape == (6, 4)
    # The second place of the first row: x is in the middle, y at a quarter from the top.
    angles = [0.0, 2 * math.pi * 0.25 * -0.5]
    expected = [*map(math.sin, angles), *map(math.cos, angles)]
    assert jnp.allclose(got[1], jnp.array(expected), atol=1e-6)


def test_fresh_heads_give_zeros_and_the_matrix_is_no_trained_parameter():
    ours = _make()
    output = run(ours, jnp.asarray(TEXT), jnp.asarray(PATCHES))
    assert not output.text_change.any() and not output.image_features.any()
    trained = nnx.to_flat_state(nnx.state(ours, nnx.All(nnx.Param, nnx.Not(Buffer))))
    names = {".".join(map(str, path)) for path, _ in trained}
    stored = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(ours, nnx.Param))}
    assert stored - names == {"pe_layer.positional_encoding_gaussian_matrix"}


def test_full_size_has_the_published_parameters_and_names():
    shapes = torch_shapes(nnx.eval_shape(lambda: _make(BIMConfig())))
    assert len(shapes) == 89
    assert shapes["dimension_reduction_head_zeroconv.weight"] == (320, 1024, 1, 1)
    assert shapes.pop("pe_layer.positional_encoding_gaussian_matrix") == (2, 512)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    assert sum(sizes.values()) == 29_211_200
    for part, published in {
        "modulate_head.": 787_456,
        "modulate_transformer.": 27_308_544,
        "dimension_reduction_head_zeroconv.": 328_000,
        "dimension_reduction_head_qformer_out.": 787_200,
    }.items():
        assert sum(size for name, size in sizes.items() if name.startswith(part)) == published


def test_bfloat16_stays_close_to_float32(pair):
    ours, theirs = pair
    half = load_torch(_make(dtype=jnp.bfloat16), theirs.official())
    inputs = jnp.asarray(TEXT), jnp.asarray(PATCHES)
    for mine, exact in zip(run(half, *inputs), run(ours, *inputs), strict=True):
        assert mine.dtype == jnp.bfloat16
        assert relative_error(mine, exact) < 5e-2


def test_features_at_their_own_grid_are_left():
    features = jnp.asarray(normal(1, 4, 4, 3))
    assert resized(features, 4, 4) is features


def test_patches_that_are_no_square_are_refused():
    with pytest.raises(ConfigError, match="12 patches are no square"):
        _make()(jnp.asarray(TEXT), jnp.asarray(PATCHES)[:, :12])


def test_a_config_survives_config_json():
    assert BIMConfig.from_dict(TINY.to_dict()) == TINY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "num_heads 3 does not divide embedding_dim / attention_downsample_rate"),
        ({"attention_downsample_rate": 5}, "attention_downsample_rate 5 does not divide"),
        ({"model_type": "sam"}, "model_type 'sam' is not supported"),
    ],
)
def test_configs_of_other_networks_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        BIMConfig.from_dict({**TINY.to_dict(), **changes})
