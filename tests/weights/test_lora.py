"""A LoRA merged here is the LoRA that diffusers and PEFT merge, or it is refused in one line."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.weights.checkpoint import checkpoint_at
from mre_jax.weights.load import load_model
from mre_jax.weights.rule import tensors
from tests.parity import relative_error
from tests.weights import lora_files
from tests.weights.lora_files import BLOCK, write

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
diffusers = pytest.importorskip("diffusers")

QUERY = f"{BLOCK}.attn1.to_q"


@pytest.fixture(scope="module")
def shapes(pipeline_folder):
    with checkpoint_at(pipeline_folder) as opened:
        return {
            name: {key: info.shape for key, info in part.source.tensors.items()}
            for name, part in opened.components.items()
        }


@pytest.fixture(scope="module")
def layers(shapes):
    """Of the UNet and of the text encoder."""
    return (
        lora_files.make(shapes["unet"], lora_files.UNET, rank=4, alpha=7.0),
        lora_files.make(shapes["text_encoder"], lora_files.TEXT, rank=2, alpha=3.0),
    )


@pytest.fixture
def kohya(layers, tmp_path):
    return write(tmp_path / "kohya.safetensors", lora_files.kohya(*layers))


@pytest.fixture
def small(tmp_path, shapes):
    """A writer of a LoRA of a single layer, with other tensors in its place or beside them."""
    unet = lora_files.make(shapes["unet"], [QUERY], rank=4, alpha=4.0)
    plain = lora_files.peft(unet, lora_files.Layers({}, 1.0))

    def written(changed=(), name="small.safetensors", **metadata):
        changed = dict(changed)
        chosen = {k: v for k, v in {**plain, **changed}.items() if v is not None}
        return write(tmp_path / name, chosen, **metadata)

    return written


def weights(folder, lora, component="unet", **options):
    with checkpoint_at(folder, lora=lora, components=(component,), **options) as opened:
        source = opened.components[component].source
        return {name: source.read(name) for name in source.tensors}


def merged_by_diffusers(folder, loras, monkeypatch, read=None):
    """The pipeline with `loras` (state dict or folder, and scale) fused into it."""
    import transformers.integrations.peft as integration

    # transformers asks for a newer PEFT than it needs here.
    monkeypatch.setattr(integration, "MIN_PEFT_VERSION", "0.0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
            folder, safety_checker=None
        )
        for index, (lora, _) in enumerate(loras):
            state, alphas, metadata = pipe.lora_state_dict(
                lora, unet_config=pipe.unet.config, return_lora_metadata=True
            )
            about = {"network_alphas": alphas, "metadata": metadata, "adapter_name": f"_{index}"}
            pipe.load_lora_into_unet(state, unet=pipe.unet, **about)
            pipe.load_lora_into_text_encoder(state, text_encoder=pipe.text_encoder, **about)
        pipe.set_adapters([f"_{i}" for i in range(len(loras))], [scale for _, scale in loras])
        pipe.fuse_lora(components=["unet", "text_encoder"])
        pipe.unload_lora_weights()
    return pipe


def check_against(pipe, folder, lora):
    """Every merged tensor, and what the networks with them say."""
    model = load_model(folder, lora=lora)
    for ours, theirs in ((model.unet, pipe.unet), (model.text_encoder, pipe.text_encoder)):
        state = {name.removeprefix("text_model."): t for name, t in theirs.state_dict().items()}
        for name, array in tensors(ours):
            assert relative_error(array, state[name.removeprefix("text_model.")]) < 1e-5, name
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(2, 8, 8, 8)).astype(np.float32)
    states = rng.normal(size=(2, 5, 64)).astype(np.float32)
    ids = np.int32([[38, *rng.integers(0, 38, 14), 39] for _ in range(2)])
    with torch.no_grad():
        noise = pipe.unet(
            torch.tensor(sample).permute(0, 3, 1, 2), torch.tensor([7, 500]), torch.tensor(states)
        ).sample.permute(0, 2, 3, 1)
        hidden = pipe.text_encoder(torch.tensor(ids, dtype=torch.long)).last_hidden_state
    ours = model.unet(jnp.asarray(sample), jnp.asarray([7, 500]), jnp.asarray(states))
    assert relative_error(ours, noise) < 1e-4
    assert relative_error(model.text_encoder(jnp.asarray(ids))[0], hidden) < 1e-4


@pytest.mark.parametrize("layout", ["peft", "diffusers", "processors", "kohya"])
def test_a_lora_of_each_layout_is_what_diffusers_makes_of_it(
    layout, shapes, pipeline_folder, tmp_path, monkeypatch
):
    named = (lora_files.UNET, lora_files.TEXT)
    if layout == "processors":
        named = (lora_files.ATTENTION, lora_files.TEXT_ATTENTION)
    unet = lora_files.make(shapes["unet"], named[0], rank=4, alpha=7.0)
    text = lora_files.make(shapes["text_encoder"], named[1], rank=2, alpha=3.0)
    path = write(tmp_path / "lora.safetensors", getattr(lora_files, layout)(unet, text))
    pipe = merged_by_diffusers(pipeline_folder, [(path, 0.7)], monkeypatch)
    check_against(pipe, pipeline_folder, [(path, 0.7)])
    change = lora_files.changes(unet, None if layout == "kohya" else 4.0)[QUERY]
    plain, merged = (weights(pipeline_folder, given) for given in ((), f"{path}:0.7"))
    difference = merged[f"{QUERY}.weight"] - plain[f"{QUERY}.weight"]
    np.testing.assert_allclose(difference, 0.7 * change, atol=1e-6)


def test_names_of_the_original_code_are_what_diffusers_makes_of_them(
    shapes, pipeline_folder, tmp_path, monkeypatch
):
    # diffusers takes the upsampler of a block without attention for an attention.
    named = [name for name in lora_files.UNET if "upsamplers" not in name and "time_" not in name]
    unet = lora_files.make(shapes["unet"], named, rank=4, alpha=7.0)
    text = lora_files.make(shapes["text_encoder"], lora_files.TEXT, rank=2, alpha=3.0)
    state = lora_files.kohya(unet, text, lora_files.original_name)
    assert any("input_blocks_1_1_transformer_blocks" in name for name in state)
    path = write(tmp_path / "original.safetensors", state)
    pipe = merged_by_diffusers(pipeline_folder, [(path, -1.3)], monkeypatch)
    check_against(pipe, pipeline_folder, f"{path}:-1.3")


def test_two_at_once_are_what_diffusers_makes_of_both(
    kohya, layers, pipeline_folder, tmp_path, monkeypatch
):
    other = write(tmp_path / "other.safetensors", lora_files.peft(*layers))
    both = [(kohya, 0.7), (other, -0.4)]
    check_against(merged_by_diffusers(pipeline_folder, both, monkeypatch), pipeline_folder, both)
    first, second = (weights(pipeline_folder, given) for given in (both, both[::-1]))
    for name, array in first.items():
        assert relative_error(array, second[name]) < 1e-6
