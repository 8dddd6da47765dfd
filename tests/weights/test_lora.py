"""A LoRA merged here is the LoRA that diffusers and PEFT merge, or it is refused in one line."""

import shutil
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.weights import locate
from mre_jax.weights import lora as lora_module
from mre_jax.weights.digest import weights_hash
from mre_jax.weights.files.source import BFLOAT16
from mre_jax.weights.load import load_model, load_text_encoder, load_unet, load_vae
from mre_jax.weights.lora import Lora, parse_loras
from mre_jax.weights.lora_file import LoraFile
from mre_jax.weights.lora_file import lora_files as lora_files_of
from mre_jax.weights.model import model_at
from mre_jax.weights.names.rule import tensors
from tests.parity import relative_error
from tests.weights import lora_files, tiny
from tests.weights.lora_files import BLOCK, write
from tests.weights.tiny import convert

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
diffusers = pytest.importorskip("diffusers")
safetensors_torch = pytest.importorskip("safetensors.torch")

QUERY = f"{BLOCK}.attn1.to_q"


@pytest.fixture(scope="module")
def shapes(pipeline_folder):
    with model_at(pipeline_folder) as opened:
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
    with model_at(folder, lora=lora, components=(component,), **options) as opened:
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


def peft_adapter(network, folder, **options):
    """A LoRA of PEFT's own over `network`, in its own folder, and the network merged with it."""
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        wrapped = get_peft_model(network, LoraConfig(init_lora_weights=False, **options))
        wrapped.save_pretrained(folder)
        return wrapped.merge_and_unload().state_dict()


@pytest.mark.parametrize(
    "options",
    [
        {"r": 4, "lora_alpha": 7, "target_modules": ["to_q", "conv1"]},
        {"r": 4, "lora_alpha": 7, "use_rslora": True, "target_modules": ["to_q", "proj_in"]},
        {
            **{"r": 4, "lora_alpha": 7, "target_modules": ["to_q", "to_k", "conv_shortcut"]},
            "rank_pattern": {"attn1.to_q": 2},
            "alpha_pattern": {r"down_blocks.*to_k": 3, "to_k": 5},
        },
        {"r": 4, "lora_alpha": 7, "lora_bias": True, "target_modules": ["to_out.0", "conv2"]},
    ],
)
def test_an_adapter_of_peft_acts_as_its_configuration_says(options, pipeline_folder, tmp_path):
    merged = peft_adapter(tiny.make_unet(), tmp_path / "adapter", **options)
    ours = weights(pipeline_folder, [tmp_path / "adapter"])
    for name, array in ours.items():
        assert relative_error(array, merged[name]) < 1e-5, name
    # Without its configuration nobody knows its alpha, and a guess would be silently wrong.
    (tmp_path / "adapter/adapter_config.json").unlink()
    with pytest.raises(DataError, match=r"lacks adapter_config\.json beside it"):
        load_unet(pipeline_folder, lora=tmp_path / "adapter")


def test_an_adapter_may_be_of_the_text_encoder(pipeline_folder, tmp_path):
    merged = peft_adapter(
        tiny.make_text_encoder(), tmp_path / "a", r=3, lora_alpha=2, target_modules=["q_proj"]
    )
    ours = weights(pipeline_folder, (str(tmp_path / "a"),), "text_encoder")
    for name, array in ours.items():
        assert relative_error(array, merged[name.removeprefix("text_model.")]) < 1e-5, name


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


@pytest.mark.parametrize("place", ["file", "folder", "only file", "torch", "adapter"])
def test_a_lora_is_found_where_trainers_put_it(place, small, pipeline_folder, tmp_path):
    expected = weights(pipeline_folder, small())
    folder = tmp_path / "folder"
    folder.mkdir()
    given = folder
    if place == "file":
        given = small(name="folder/any name: 1.safetensors")
    elif place == "folder":
        small(name="folder/pytorch_lora_weights.safetensors")
        small({f"unet.{QUERY}.alpha": np.float32([9])}, name="folder/other.safetensors")
    elif place == "only file":
        small(name="folder/style.safetensors")
    elif place == "torch":
        state = safetensors_torch.load_file(small())
        # Earlier versions of diffusers left the network's name out.
        state = {name.removeprefix("unet."): tensor for name, tensor in state.items()}
        torch.save(state, folder / "pytorch_lora_weights.bin")
    else:
        state = safetensors.numpy.load_file(small())
        state = {name.replace("unet.", "base_model.model."): a for name, a in state.items()}
        write(folder / "adapter_model.safetensors", state)
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 4}')
    for name, array in weights(pipeline_folder, given).items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_folder_without_a_lora_or_with_two_is_refused(small, pipeline_folder, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder holds no LoRA"):
        load_unet(pipeline_folder, lora=tmp_path / "folder")
    small(name="folder/a.safetensors")
    small(name="folder/b.safetensors")
    with pytest.raises(DataError, match=r"holds a\.safetensors, b\.safetensors; name"):
        load_unet(pipeline_folder, lora=tmp_path / "folder")
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_unet(pipeline_folder, lora=tmp_path / "nowhere")


def test_of_a_repository_an_adapter_comes_with_its_configuration(
    pipeline_folder, tmp_path, monkeypatch
):
    peft_adapter(tiny.make_unet(), tmp_path, r=2, lora_alpha=3, target_modules=["to_q"])
    names, asked = ["README.md", *(path.name for path in tmp_path.iterdir())], []

    def snapshot_download(repository, revision, allow_patterns):
        asked.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(locate, "list_repo_files", lambda repository, revision: names)
    monkeypatch.setattr(locate, "snapshot_download", snapshot_download)
    revision = "0123456789abcdef0123456789abcdef01234567"
    merged = weights(pipeline_folder, f"org/style@{revision}:0.5")
    assert sorted(asked) == ["adapter_config.json", "adapter_model.safetensors"]
    for name, array in weights(pipeline_folder, [(tmp_path, 0.5)]).items():
        np.testing.assert_array_equal(array, merged[name])


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


Q, K = f"unet.{QUERY}", f"unet.{BLOCK}.attn2.to_k"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        # Relatives that are no product of two matrices.
        ({"lora_unet_conv_in.hada_w1_a": array(4, 4)}, "is LoHa, which cannot"),
        ({"lora_unet_conv_in.lokr_w1": array(4, 4)}, "is LoKr, which cannot"),
        ({"lora_unet_conv_in.dora_scale": array(4, 1)}, "is DoRA, which cannot"),
        ({f"{Q}.lora_magnitude_vector": array(32)}, "is DoRA, which cannot"),
        ({"unet.conv_in.oft_R": array(4, 4)}, "is OFT, which cannot"),
        ({f"{Q}.ia3_l": array(32, 1)}, "is IA3, which cannot"),
        # Other families of models.
        ({"lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": array(1)}, "it has alpha"),
        (
            {
                f"lora_te2_layers_0_mlp_fc1.lora_{part}.weight": array(4, 4)
                for part in ("down", "up")
            },
            r"1 unexpected: lora_te2_layers_0_mlp_fc1\. It is for SDXL",
        ),
        (
            {f"{K}.lora_A.weight": array(4, 2048), f"{K}.lora_B.weight": array(32, 4)},
            r"attn2\.to_k is \[32, 2048\], not \[32, 64\]\. It is for SDXL",
        ),
        (
            {f"{K}.lora_A.weight": array(4, 1024), f"{K}.lora_B.weight": array(32, 4)},
            r"to_k is \[32, 1024\], not \[32, 64\]\. It is for SD2",
        ),
        (
            {
                f"transformer.single_transformer_blocks.0.attn.to_q.lora_{part}.weight": array(4, 4)
                for part in "AB"
            },
            r"1 unexpected: transformer\.single.*It is for a diffusion transformer",
        ),
        # As diffusers: a text-to-image model's conv_in does not fit an editor's.
        (
            {
                "unet.conv_in.lora_A.weight": array(4, 4, 3, 3),
                "unet.conv_in.lora_B.weight": array(32, 4, 1, 1),
            },
            r"conv_in is \[32, 4, 3, 3\], not \[32, 8, 3, 3\]",
        ),
        ({f"{Q}.lora_B.bias": array(32)}, r"to_q has no bias"),
        # Files that hold more or less than a LoRA.
        (
            {"unet.conv_in.weight": array(4)},
            r"1 tensors that are no part .*: unet\.conv_in\.weight",
        ),
        ({f"{Q}.lora_B.weight": None}, r"to_q is no product .*it has down \[4, 32\]"),
        ({f"{Q}.lora_B.weight": array(32, 3)}, r"to_q is no product of low rank"),
        ({f"{Q}.lora_A.weight": array(0, 32)}, r"to_q is no product of low rank"),
        ({f"{Q}.alpha": array(2)}, r"alpha is \[2\], not a number"),
        ({f"{Q}.lora_A.weight": array(4, 32, dtype=np.int8)}, r"lora_A\.weight is int8"),
        ({f"{Q}.lora_A.weight": array(4, 32) * np.nan}, r"to_q\.lora_A\.weight is not finite"),
        (
            {
                f"lora_unet_{QUERY.replace('.', '_')}.lora_down.weight": array(4, 32),
                f"lora_unet_{QUERY.replace('.', '_')}.lora_up.weight": array(32, 4),
            },
            r"1 unexpected: unet\.down.*to_q \(twice\)",
        ),
        ({f"unet.{QUERY}_x.diff": array(4)}, r"1 unexpected: .*to_q_x"),
    ],
)
def test_what_is_no_lora_of_this_model_is_refused_in_a_line(
    changed, message, small, pipeline_folder
):
    path = small(changed)
    with pytest.raises(DataError, match=message) as error:
        load_model(pipeline_folder, lora=path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"unet.use_dora": true}', "is DoRA"),
        ('{"unet.peft_type": "LOKR"}', "is LoKr, which"),
        ('{"unet.lora_alpha": "much"}', "lora_alpha or alpha_pattern is damaged"),
        ('{"unet.alpha_pattern": {"(": 3}}', "lora_alpha or alpha_pattern is damaged"),
        ("[", "lora_adapter_metadata in its header is damaged"),
    ],
)
def test_a_header_that_cannot_be_followed_is_refused(settings, message, small, pipeline_folder):
    path = small(lora_adapter_metadata=settings)
    with pytest.raises(DataError, match=message):
        load_unet(pipeline_folder, lora=path)


def test_a_lora_is_no_model(small):
    with pytest.raises(DataError, match=r"small\.safetensors is a LoRA: give it with --lora"):
        load_unet(small())


def test_a_network_with_unmerged_adapters_is_refused_by_name(pipeline_folder, tmp_path):
    """As `save_pretrained` writes it while an adapter is loaded."""
    model = shutil.copytree(pipeline_folder, tmp_path / "model")
    path = next((model / "unet").glob("*.safetensors"))
    state = {
        name.replace("to_q.weight", "to_q.base_layer.weight"): array
        for name, array in safetensors.numpy.load_file(path).items()
    }
    layer = next(name for name in state if "base_layer" in name).partition("base_layer")[0]
    adapter = {f"{layer}lora_A.default.weight": np.ones((1, 2), np.float32)}
    safetensors.numpy.save_file(state | adapter, path)
    for place in (model, path):
        with pytest.raises(DataError, match=r"an adapter between its own .* give it with --lora"):
            load_unet(place)


def test_of_a_remote_folder_the_lora_alone_is_fetched(
    small, pipeline_folder, tmp_path, monkeypatch
):
    expected = weights(pipeline_folder, small())
    (tmp_path / "bucket/style").mkdir(parents=True)
    small(name="bucket/style/pytorch_lora_weights.safetensors")
    small(name="bucket/style/optimizer.safetensors")
    real, copied = epath.Path, []
    bucket = str(tmp_path / "bucket")
    monkeypatch.setattr(
        locate.epath, "Path", lambda path: real(str(path).replace("gs://bucket", bucket))
    )
    monkeypatch.setattr(
        lora_module, "LoraFile", lambda path: copied.extend(path.iterdir()) or LoraFile(path)
    )
    merged = weights(pipeline_folder, "gs://bucket/style:1.0")
    assert [path.name for path in copied] == ["pytorch_lora_weights.safetensors"]
    for name, array in merged.items():
        np.testing.assert_array_equal(array, expected[name])
    found = lora_files_of(["a.safetensors", "adapter_config.json", "README.md", "x/b.safetensors"])
    assert found == ["a.safetensors", "adapter_config.json"]


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
