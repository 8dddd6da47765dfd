"""A LoRA's file is read where trainers put it and as their settings say, or refused in one line."""

import shutil
import warnings

import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from mre_jax.errors import DataError
from mre_jax.weights import locate
from mre_jax.weights import lora as lora_module
from mre_jax.weights.load import load_model, load_unet
from mre_jax.weights.lora_file import LoraFile
from mre_jax.weights.lora_file import lora_files as lora_files_of
from tests.parity import relative_error
from tests.weights import tiny
from tests.weights.lora_files import BLOCK, QUERY, write
from tests.weights.tiny import weights

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
safetensors_torch = pytest.importorskip("safetensors.torch")


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
