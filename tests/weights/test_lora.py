"""A LoRA merged here is the LoRA that diffusers and PEFT merge."""

import shutil
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.weights.digest import weights_hash
from mre_jax.weights.files.source import BFLOAT16
from mre_jax.weights.load import load_model, load_text_encoder, load_unet, load_vae
from mre_jax.weights.lora import Lora, parse_loras
from mre_jax.weights.names.rule import tensors
from mre_jax.weights.opening import model_at
from tests.parity import relative_error
from tests.weights import lora_files, tiny
from tests.weights.lora_files import QUERY, write
from tests.weights.tiny import convert, weights

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
diffusers = pytest.importorskip("diffusers")


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


def test_the_header_that_diffusers_writes_says_how_strongly_it_acts(
    pipeline_folder, tmp_path, monkeypatch
):
    unet, text = tiny.make_unet(), tiny.make_text_encoder()
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline
    saved = {}
    for key, network, alpha, other in (
        ("unet", unet, 9, {"attn1.to_q": 11, "conv1": 2}),
        ("text_encoder", text, 3, {"q_proj": 5}),
    ):
        config = peft.LoraConfig(
            r=2,
            lora_alpha=alpha,
            alpha_pattern=other,
            target_modules=["to_q", "conv1", "q_proj", "fc1"],
            init_lora_weights=False,
        )
        peft.inject_adapter_in_model(config, network)
        saved[f"{key}_lora_layers"] = peft.get_peft_model_state_dict(network)
        saved[f"{key}_lora_adapter_metadata"] = config.to_dict()
    pipeline.save_lora_weights(tmp_path, **saved)
    pipe = merged_by_diffusers(pipeline_folder, [(tmp_path, 0.5)], monkeypatch)
    check_against(pipe, pipeline_folder, (f"{tmp_path}:0.5",))


def test_a_decomposed_convolution_is_three_in_a_row(pipeline_folder, tmp_path):
    """LyCORIS's LoCon with a Tucker core: 1x1 down, 3x3 in the middle, 1x1 up."""
    rng = np.random.default_rng(0)
    down, mid, up = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((4, 32, 1, 1), (4, 4, 3, 3), (64, 4, 1, 1))
    )
    key, name = "lora_unet_down_blocks_1_resnets_0_conv1", "down_blocks.1.resnets.0.conv1.weight"
    parts = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up}
    path = write(tmp_path / "locon.safetensors", {f"{key}.{k}": v for k, v in parts.items()})
    plain, merged = (torch.tensor(weights(pipeline_folder, g)[name]) for g in ((), path))
    x = torch.randn(1, 32, 6, 6)
    conv = torch.nn.functional.conv2d
    row = conv(conv(conv(x, torch.tensor(down)), torch.tensor(mid), padding=1), torch.tensor(up))
    expected = conv(x, plain, padding=1) + row
    torch.testing.assert_close(conv(x, merged, padding=1), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def deep_unet(tmp_path_factory):
    """As deep as Stable Diffusion 1.5's, so that every name of that one is there."""
    levels = {
        "block_out_channels": [32, 64, 96, 96],
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "layers_per_block": 2,
    }
    folder = tmp_path_factory.mktemp("deep")
    tiny.make_unet(**levels).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("spelling", ["kohya", "original", "lycoris"])
def test_changes_in_full_reach_every_tensor_of_the_unet(spelling, deep_unet, tmp_path):
    """LyCORIS's `diff`: so every module of the UNet is found under each of its flat names."""
    plain = weights(deep_unet, ())
    prefix = "lycoris_" if spelling == "lycoris" else "lora_unet_"
    parts = {"weight": "diff", "bias": "diff_b"}
    state, change = {}, {}
    for index, (name, array) in enumerate(plain.items()):
        module, _, leaf = name.rpartition(".")
        change[name] = np.full(array.shape, index + 1, np.float32)
        if spelling == "original":
            module = lora_files.original_name(module, layers=2, attending=(1, 2, 3))
        state[f"{prefix}{module.replace('.', '_')}.{parts[leaf]}"] = change[name]
    assert len(state) == len(plain) == 686
    path = write(tmp_path / "full.safetensors", state)
    for name, array in weights(deep_unet, [(path, 0.5)]).items():
        np.testing.assert_allclose(array, plain[name] + 0.5 * change[name], rtol=1e-6)


def test_the_scale_0_leaves_every_bit_and_the_hash(kohya, pipeline_folder, tmp_path):
    shutil.copytree(pipeline_folder, tmp_path / "model")
    file = tmp_path / "model/unet/diffusion_pytorch_model.safetensors"
    state = weights(pipeline_folder, ())
    state["conv_in.weight"][0] = -0.0
    write(file, state)
    plain = weights_hash(tmp_path / "model")
    assert weights_hash(tmp_path / "model", lora=[(kohya, 0)]) == plain
    hashes = {weights_hash(tmp_path / "model", lora=[(kohya, scale)]) for scale in (1, -1, 0.5)}
    assert len({plain, *hashes}) == 4
    merged = weights_hash(tmp_path / "model", lora=f"{kohya}:1.0")
    assert merged in hashes


def test_sums_are_rounded_once(pipeline_folder, tmp_path):
    """In bfloat16 two changes of 0.4 units would be lost one by one; together they are one unit."""
    state = {name: a.astype(BFLOAT16) for name, a in weights(pipeline_folder, ()).items()}
    state["conv_out.bias"][:] = 1.0
    shutil.copytree(pipeline_folder / "unet", tmp_path / "unet")
    write(tmp_path / "unet/diffusion_pytorch_model.safetensors", state)
    unit = 2.0**-7
    both = [
        write(tmp_path / name, {"lora_unet_conv_out.diff_b": np.full(4, 0.4 * unit, np.float32)})
        for name in ("a.safetensors", "b.safetensors")
    ]
    for given, change in ((both[:1], 0), (both, unit), (both[::-1], unit)):
        merged = weights(tmp_path / "unet", given)["conv_out.bias"]
        assert merged.dtype == BFLOAT16
        np.testing.assert_array_equal(merged.astype(np.float32), 1 + change)


def test_what_is_too_large_for_the_weights_dtype_is_refused(pipeline_folder, tmp_path):
    state = {name: a.astype(np.float16) for name, a in weights(pipeline_folder, ()).items()}
    shutil.copytree(pipeline_folder / "unet", tmp_path / "unet")
    write(tmp_path / "unet/diffusion_pytorch_model.safetensors", state)
    huge = {"lora_unet_conv_out.diff_b": np.full(4, 1e6, np.float32)}
    path = write(tmp_path / "huge.safetensors", huge)
    with pytest.raises(DataError, match=r"huge\.safetensors.*not finite: conv_out\.bias"):
        load_unet(tmp_path / "unet", lora=path)


def test_a_network_takes_its_part_of_a_file(kohya, layers, pipeline_folder):
    whole = load_model(pipeline_folder, lora=kohya)
    for load, network in ((load_unet, whole.unet), (load_text_encoder, whole.text_encoder)):
        for path in (pipeline_folder, pipeline_folder / load.__name__.removeprefix("load_")):
            alone = dict(tensors(load(path, lora=[Lora(str(kohya))])))
            for name, array in tensors(network):
                np.testing.assert_array_equal(array, alone[name])
    assert whole.notes == (
        f"merged {kohya} at scale 1: {len(lora_files.UNET)} layers of unet and "
        f"{len(lora_files.TEXT)} layers of text_encoder, rank 2 to 4, alpha 3 to 7",
    )
    with model_at(pipeline_folder / "unet", lora=kohya) as opened:
        left = f"; {len(lora_files.TEXT)} layers of networks that are not here left out"
        assert opened.notes[0].endswith(left)
    with pytest.raises(DataError, match="changes nothing of vae"):
        load_vae(pipeline_folder, lora=kohya)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_reward_unet_keeps_its_reward(form, small, tmp_path):
    from mre_jax.pytorch import RewardUNet2DConditionModel
    from mre_jax.reward.config import RewardConfig

    reward = RewardConfig(form=form, score_width=32, num_attention_heads=4).to_dict()
    unet = tiny.randomized(RewardUNet2DConditionModel, **tiny.UNET, reward=reward)
    unet.save_pretrained(tmp_path / "unet")
    check_only_the_query_changes(tmp_path / "unet", small())


def test_other_forms_of_a_model_take_a_lora(pipeline_folder, original_file, small, tmp_path):
    convert(pipeline_folder, tmp_path / "ours", format="orbax")
    for model in (tmp_path / "ours", original_file):
        check_only_the_query_changes(model, small())


def check_only_the_query_changes(model, lora):
    plain, merged = weights(model, ()), weights(model, lora)
    assert merged.keys() == plain.keys()
    changed = [name for name, array in merged.items() if (array != plain[name]).any()]
    assert changed == [f"{QUERY}.weight"]


def test_file_and_scale_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:2").touch()
    for given, path, scale in (
        ("a.safetensors", "a.safetensors", 1),
        ("a.safetensors:0.5", "a.safetensors", 0.5),
        ("a:-1e-1", "a", -0.1),
        ("gs://bucket/a.safetensors", "gs://bucket/a.safetensors", 1),
        ("gs://bucket/a.safetensors:2", "gs://bucket/a.safetensors", 2),
        ("C:\\loras\\a", "C:\\loras\\a", 1),
        ("C:\\loras\\a:0", "C:\\loras\\a", 0),
        ("part:a.safetensors", "part:a.safetensors", 1),
        ("odd:2", "odd:2", 1),
        ("odd:2:3", "odd:2", 3),
        (("b:1", 0.25), "b:1", 0.25),
        (tmp_path / "odd:2", str(tmp_path / "odd:2"), 1),
    ):
        assert parse_loras([given]) == (Lora(path, scale),)
    assert parse_loras("a:2") == parse_loras(["a:2"]) and parse_loras(()) == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a.safetensors:strong", r"lora a\.safetensors: its scale 'strong' is not a finite number"),
        ("a:", "its scale '' is not"),
        ("a:nan", "its scale 'nan' is not"),
        (("a", float("inf")), "its scale inf is not"),
        (("a", None), "its scale None is not"),
        (("a", 1, 2), "is neither FILE, nor FILE:SCALE"),
        (0.5, "is neither FILE, nor FILE:SCALE"),
    ],
)
def test_a_scale_that_is_no_number_is_named(given, message, pipeline_folder):
    with pytest.raises(ConfigError, match=message):
        load_unet(pipeline_folder, lora=[given])
