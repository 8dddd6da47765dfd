"""Every parameter has PyTorch's name and layout, and no tensor is lost, guessed or taken twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import DataError
from mre_jax.io.devices import split_longest
from mre_jax.models.layers import Compute, conv, embedding, group_norm, linear, make_rngs
from mre_jax.weights.files.source import TensorInfo, TensorSource
from mre_jax.weights.names.rule import (
    ModuleTensors,
    expected_tensors,
    from_torch,
    load,
    tensors,
    to_torch,
)
from tests.weights.alive import Alive

NAMES = {
    "blocks.0.conv.weight": (4, 3, 1, 2),
    "blocks.0.conv.bias": (4,),
    "ff.net.0.weight": (5, 2),
    "ff.net.2.weight": (2, 5),
    "ff.net.2.bias": (2,),
    "norm.weight": (4,),
    "norm.bias": (4,),
    "table.weight": (7, 3),
    "class_embedding": (3,),
}


class Block(nnx.Module):
    def __init__(self, *, compute, rngs):
        self.conv = nnx.Conv(3, 4, (1, 2), dtype=compute.dtype, rngs=rngs)


class FeedForward(nnx.Module):
    def __init__(self, *, compute, rngs):
        self.net = nnx.Dict(
            {
                "0": linear(2, 5, use_bias=False, compute=compute, rngs=rngs),
                "2": linear(5, 2, compute=compute, rngs=rngs),
            }
        )


class Network(nnx.Module):
    """A layer of every kind, a torch list with a hole, and a raw parameter."""

    def __init__(self):
        compute, rngs = Compute(), make_rngs(0)
        self.blocks = nnx.List([Block(compute=compute, rngs=rngs)])
        self.ff = FeedForward(compute=compute, rngs=rngs)
        self.norm = group_norm(4, groups=2, epsilon=1e-5, compute=compute, rngs=rngs)
        self.table = embedding(7, 3, compute=compute, rngs=rngs)
        self.class_embedding = nnx.Param(jnp.zeros(3))


class Given(TensorSource):
    """Arrays in memory that remember what was read."""

    origin = "given"

    def __init__(self, arrays):
        self.arrays = arrays
        self.tensors = {name: TensorInfo(a.shape, a.dtype) for name, a in arrays.items()}
        self.reads = []

    def read(self, name):
        self.reads.append(name)
        return self.arrays[name]


def random_tensors(shapes=NAMES, dtype=np.float32):
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def abstract():
    return nnx.eval_shape(Network)


def test_names_and_shapes_are_pytorchs(abstract):
    assert {name: s.shape for name, s in expected_tensors(abstract).items()} == NAMES


def test_there_and_back_is_bit_for_bit_and_reads_each_tensor_once(abstract):
    source = Given(random_tensors())
    module = load(abstract, source)
    assert sorted(source.reads) == sorted(NAMES)
    back = dict(tensors(module))
    assert back.keys() == NAMES.keys()
    for name, array in back.items():
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, source.arrays[name])
    described = ModuleTensors(module).tensors
    assert all(described[name] == (a.shape, a.dtype) for name, a in back.items())


@pytest.mark.parametrize(("path", "shape"), [(("kernel",), (2, 3, 4, 5)), (("kernel",), (2, 3))])
def test_axes_there_and_back(path, shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    name, theirs = to_torch(path, array)
    assert name == "weight" and theirs.shape == (*shape[:-3:-1], *shape[:-2])
    np.testing.assert_array_equal(from_torch(path, theirs), array)


def test_a_layer_computes_what_pytorch_computes():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Conv2d(3, 4, 3, padding=1)
    arrays = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    abstract = nnx.eval_shape(lambda: conv(3, 4, compute=Compute(), rngs=make_rngs(0)))
    ours = load(abstract, Given(arrays))
    x = torch.randn(2, 3, 5, 6)
    expected = theirs(x).detach().permute(0, 2, 3, 1).numpy()
    output = ours(jnp.asarray(x.permute(0, 2, 3, 1).numpy()))
    np.testing.assert_allclose(output, expected, atol=1e-5 * abs(expected).max())


def test_parameters_take_the_dtype_that_is_asked_for(abstract):
    half = Given(random_tensors(dtype=np.float16))
    for dtype in (jnp.float32, jnp.bfloat16):
        state = nnx.state(load(abstract, half, dtype=dtype))
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(dtype)}


def test_each_parameter_lands_where_its_sharding_says(abstract):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    shapes = {**NAMES, "table.weight": (8, 3)}
    module = nnx.eval_shape(Network)
    module.table = nnx.eval_shape(lambda: embedding(8, 3, compute=Compute(), rngs=make_rngs(0)))
    source = Given(random_tensors(shapes))
    seen = {}

    def placement(name, shape):
        seen[name] = shape.shape
        return split if name == "table.weight" else replicated

    loaded = load(module, source, placement=placement)
    assert loaded.table.embedding[...].sharding == split
    assert loaded.norm.scale[...].sharding == replicated
    assert seen["blocks.0.conv.weight"] == (1, 2, 3, 4)
    np.testing.assert_array_equal(loaded.table.embedding[...], source.arrays["table.weight"])
    everywhere = load(module, source, placement=replicated)
    assert everywhere.table.embedding[...].sharding == replicated


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_one_tensor_is_held_while_it_is_placed_part_by_part(dtype):
    """A language model of 13 GB goes onto chips of 16 from a host that could not hold it."""
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    module = nnx.eval_shape(lambda: linear(24, 16, compute=Compute(), rngs=make_rngs(0)))
    arrays = random_tensors({"weight": (16, 24), "bias": (16,)})
    source = Alive(Given(arrays))
    loaded = load(
        module,
        source,
        dtype=dtype,
        placement=lambda _, leaf: split_longest(mesh, leaf.shape, ("fsdp",)),
    )
    assert source.most == 1 and sorted(source.reads) == ["bias", "weight"]
    kernel = loaded.kernel[...]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(("fsdp",))
    assert {part.data.shape for part in kernel.addressable_shards} == {(3, 16)}
    assert loaded.bias[...].sharding.is_fully_replicated
    np.testing.assert_array_equal(kernel, arrays["weight"].T.astype(jnp.dtype(dtype)))
    alone = Alive(Given(arrays))
    load(module, alone)
    assert alone.most == 1


def test_everything_that_does_not_fit_is_listed_in_one_error(abstract):
    arrays = random_tensors()
    del arrays["norm.bias"]
    arrays |= {f"extra.{i:02}": np.ones(1, np.float32) for i in range(30)}
    arrays["ff.net.0.weight"] = arrays["ff.net.0.weight"].T
    arrays["table.weight"] = arrays["table.weight"].astype(np.int64)
    arrays["norm.weight"][1] = np.nan
    arrays["class_embedding"][0] = -np.inf
    with pytest.raises(DataError) as error:
        load(abstract, Given(arrays))
    text = str(error.value)
    assert text.startswith("given does not fit the model: ") and "\n" not in text
    assert "1 missing: norm.bias;" in text
    assert "30 unexpected: extra.00, extra.01, " in text and "extra.02 and 27 more;" in text
    assert "ff.net.0.weight is [2, 5], not [5, 2]" in text
    assert "table.weight is int64, not floating-point" in text
    assert "2 not finite: class_embedding, norm.weight." in text
    assert len(text) < 600


@pytest.mark.slow
def test_full_size_names_and_shapes_are_diffusers_and_transformers():
    """SD1.5's three networks: the references on torch's meta device, ours abstract."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    from mre_jax.weights.model import Component
    from mre_jax.weights.names.aliases import current

    clip = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    clip |= {"num_attention_heads": 12}
    levels = {"down_block_types": ["DownEncoderBlock2D"] * 4, "layers_per_block": 2}
    vae = {**levels, "up_block_types": ["UpDecoderBlock2D"] * 4}
    vae["block_out_channels"] = [128, 256, 512, 512]
    unet = {"in_channels": 8, "cross_attention_dim": 768}
    with torch.device("meta"):
        references = {
            "unet": (diffusers.UNet2DConditionModel(**unet), unet),
            "vae": (diffusers.AutoencoderKL(**vae), vae),
            "text_encoder": (
                transformers.CLIPTextModel(transformers.CLIPTextConfig(**clip)),
                clip,
            ),
        }
    for name, (theirs, config) in references.items():
        state = {
            key: np.broadcast_to(np.float32(0), tensor.shape)
            for key, tensor in theirs.state_dict().items()
        }
        named = current(name, Given(state)).tensors
        network = Component(name, config, b"", Given({})).network()
        ours = {key: tuple(s.shape) for key, s in expected_tensors(network).items()}
        assert ours == {key: info.shape for key, info in named.items()}, name
