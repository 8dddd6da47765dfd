"""Names of the original layout: the rule agrees with diffusers' own conversion, at any size."""

import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.weights.files.source import TensorInfo
from mre_jax.weights.names import infer
from mre_jax.weights.names.compvis import split, unet_rule, vae_rule
from tests.weights import tiny
from tests.weights.names.test_rule import Given

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"


def unet_of(widths, layers, attends, **changes):
    down = [CROSS if attention else PLAIN for attention in attends]
    up = [kind.replace("Down", "Up") for kind in reversed(down)]
    with torch.device("meta"):
        return diffusers.UNet2DConditionModel(
            block_out_channels=widths,
            layers_per_block=layers,
            down_block_types=down,
            up_block_types=up,
            **{"cross_attention_dim": 64, "in_channels": 8, **changes},
        )


UNETS = {
    "full size": ((320, 640, 1280, 1280), 2, (1, 1, 1, 0), {"cross_attention_dim": 768}),
    "tiny": ((32, 64), 1, (1, 0), {}),
    "three levels": ((32, 32, 64), 3, (0, 1, 1), {}),
    "one level": ((32,), 2, (1,), {}),
    "linear projections": ((32, 64), 1, (1, 0), {"use_linear_projection": True}),
}


def theirs_of(original, layers):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    state = {f"model.diffusion_model.{name}": tensor for name, tensor in original.items()}
    return convert_ldm_unet_checkpoint(state, {"layers_per_block": layers})


@pytest.mark.parametrize("size", UNETS)
def test_unet_names_are_those_of_diffusers_conversion(size):
    widths, layers, attends, changes = UNETS[size]
    state = unet_of(widths, layers, attends, **changes).state_dict()
    original = tiny.original_unet(state, layers)
    assert len(original) == len(state)
    rule = unet_rule(original)
    ours = {rule(name): tensor for name, tensor in original.items()}
    theirs = theirs_of(original, layers)
    assert ours.keys() == theirs.keys() == state.keys()
    assert all(ours[name] is theirs[name] is state[name] for name in state)


@pytest.mark.parametrize("widths", [(128, 256, 512, 512), (32, 64), (32, 32, 64)])
def test_vae_names_are_those_of_diffusers_conversion(widths):
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = {
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
    }
    with torch.device("meta"):
        state = diffusers.AutoencoderKL(
            block_out_channels=widths, layers_per_block=2, **levels
        ).state_dict()
    original = tiny.original_vae(state, len(widths))
    rule = vae_rule(original)
    ours = {rule(name): name for name in original}
    prefixed = {f"first_stage_model.{name}": tensor for name, tensor in original.items()}
    theirs = convert_ldm_vae_checkpoint(prefixed, levels)
    assert ours.keys() == theirs.keys() == state.keys()
    for name, tensor in theirs.items():
        assert tensor.shape == state[name].shape
        stored = original[ours[name]]
        assert stored.shape in (tensor.shape, (*tensor.shape, 1, 1))


@pytest.mark.parametrize(
    "name",
    [
        *("input_blocks.99.0.in_layers.0.weight", "input_blocks.0.1.norm.weight"),
        *("middle_block.3.norm.weight", "output_blocks.1.0.in_layers.9.weight"),
        *("label_emb.weight", "output_blocks.0.3.norm.weight", "input_blocks.x.0.bias"),
    ],
)
def test_a_name_outside_the_layout_has_no_counterpart(name):
    widths, layers, attends, _ = UNETS["tiny"]
    original = tiny.original_unet(unet_of(widths, layers, attends).state_dict(), layers)
    assert unet_rule(original)(name) is None


@pytest.mark.parametrize("size", UNETS)
def test_the_configuration_follows_from_the_shapes(size):
    widths, layers, attends, changes = UNETS[size]
    unet = unet_of(widths, layers, attends, **changes)
    shapes = {
        name: TensorInfo(tuple(tensor.shape), np.dtype(np.float32))
        for name, tensor in unet.state_dict().items()
    }
    config = infer.unet_config(shapes, "file")
    for key, value in config.items():
        if key in unet.config and key != "sample_size":
            theirs = unet.config[key]
            assert value == (list(theirs) if isinstance(theirs, tuple) else theirs), key


def checkpoint_arrays(average=0.5):
    models = tiny.make_unet(), tiny.make_vae(), tiny.make_text_encoder()
    state = tiny.original_checkpoint(*models, average)["state_dict"]
    return {name: tensor.numpy() for name, tensor in state.items()}


@pytest.fixture(scope="module")
def arrays():
    return checkpoint_arrays()


def test_the_average_is_taken_unless_raw_is_asked_for(arrays):
    name = "model.diffusion_model.out.2.bias"
    for weights, factor in ((None, 0.5), ("ema", 0.5), ("raw", 1.0)):
        found = split(Given(arrays), weights)
        assert found.weights == (weights or "ema")
        np.testing.assert_array_equal(found.unet.read("conv_out.bias"), arrays[name] * factor)
    alone = {name: a for name, a in arrays.items() if not name.startswith("model_ema.")}
    assert split(Given(alone)).weights == "raw"
    with pytest.raises(DataError, match=r"lacks \d+ EMA tensors.*--weights raw"):
        split(Given(alone), "ema")


def test_the_vaes_projections_become_matrices(arrays):
    vae = split(Given(arrays)).vae
    name = "encoder.mid_block.attentions.0.to_q.weight"
    stored = arrays["first_stage_model.encoder.mid.attn_1.q.weight"]
    assert stored.shape == (64, 64, 1, 1) and vae.tensors[name].shape == (64, 64)
    np.testing.assert_array_equal(vae.read(name), stored[:, :, 0, 0])


@pytest.mark.parametrize(
    "name",
    [
        *("lora.up.weight", "model_ema.diffusion_modelunknown", "model.diffusion_model.label_emb"),
        *("first_stage_model.other", "control_model.input_blocks.0.0.weight", "other.weight"),
    ],
)
def test_a_tensor_of_no_known_part_is_refused_by_name(arrays, name):
    with pytest.raises(DataError, match=f"1 tensors that the original layout.*{name}"):
        split(Given({**arrays, name: np.zeros(1, np.float32)}))


def test_an_incomplete_average_is_refused(arrays):
    name = "model_ema.diffusion_modelout2bias"
    with pytest.raises(DataError, match=f"lacks 1 EMA tensors, such as {name}"):
        split(Given({key: a for key, a in arrays.items() if key != name}))


def test_another_family_says_what_it_lacks():
    with pytest.raises(DataError, match=r"file lacks mid_block.*SD1\.x"):
        infer.unet_config({"x": TensorInfo((1,), np.dtype(np.float32))}, "file")
