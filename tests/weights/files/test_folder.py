"""What a model folder is taken for, and what is said of one that is not."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from mre_jax.editing.pipeline import EditPipeline
from mre_jax.errors import DataError
from mre_jax.weights.files.folder import ModelFolder
from mre_jax.weights.load import load_model
from mre_jax.weights.opening import open_model
from tests.weights import tiny
from tests.weights.tiny import convert


def test_components_and_small_files_are_found(pipeline_folder):
    folder = ModelFolder.open(pipeline_folder)
    assert set(folder.components) == {"unet", "vae", "text_encoder"} and not folder.lone
    files = folder.files()
    for name in ("model_index.json", "tokenizer/vocab.json", "scheduler/scheduler_config.json"):
        assert files[name] == (pipeline_folder / name).read_bytes()
    assert not any("safetensors" in name for name in files)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_a_missing_part_is_named_with_its_folder(folder, component):
    shutil.rmtree(folder / component)
    with pytest.raises(DataError, match=f"{folder} lacks {component}/.*--base"):
        open_model(folder)


def test_what_is_missing_comes_from_the_base(folder, pipeline_folder):
    shutil.rmtree(folder / "vae")
    shutil.rmtree(folder / "tokenizer")
    model = open_model(folder, base=pipeline_folder)
    assert model.components["vae"].source.origin.startswith(str(pipeline_folder))
    assert "tokenizer/vocab.json" in model.files
    assert model.notes == (f"vae, tokenizer taken from {pipeline_folder}",)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_a_component_stands_alone(pipeline_folder, component):
    model = open_model(pipeline_folder / component)
    assert model.lone and list(model.components) == [component] and not model.files


def test_weights_that_are_missing_are_named(folder):
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(DataError, match=r"unet holds no weights .* it has config\.json; wanted"):
        open_model(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
@pytest.mark.parametrize("name", ["vae/config", "scheduler/scheduler_config", "model_index"])
def test_a_damaged_configuration_is_named(folder, text, name):
    (folder / f"{name}.json").write_text(text)
    with pytest.raises(DataError, match=rf"{name}\.json: (not JSON|want a JSON object)"):
        open_model(folder)


def test_a_foreign_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        ModelFolder.open(tmp_path / "none")
    with pytest.raises(DataError, match=r"has nothing; wanted is model_index\.json"):
        ModelFolder.open(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')
    with pytest.raises(DataError, match="FluxTransformer2DModel; supported are UNet2D"):
        ModelFolder.open(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["T5EncoderModel"]}')
    with pytest.raises(DataError, match="T5EncoderModel; supported are"):
        ModelFolder.open(tmp_path)


def test_the_checkpoint_of_a_training_run_gives_its_average(folder, tmp_path):
    """As the released training code saves: `unet` and `unet_ema` side by side."""
    shutil.copytree(folder / "unet", folder / "unet_ema")
    config = json.loads((folder / "unet_ema/config.json").read_text())
    config |= {"decay": 0.9999, "optimization_step": 10000, "min_decay": 0.0}
    (folder / "unet_ema/config.json").write_text(json.dumps(config))
    for weights, part in ((None, "unet_ema"), ("ema", "unet_ema"), ("raw", "unet")):
        model = open_model(folder, weights=weights)
        assert model.weights == (weights or "ema")
        assert model.components["unet"].source.origin.split("/")[-2] == part
        model.components["unet"].network()
    shutil.rmtree(folder / "unet_ema")
    with pytest.raises(DataError, match=r"holds no EMA weights; use --weights raw"):
        open_model(folder, weights="ema")


def stored_tensors(path):
    from mre_jax.weights.files.source import SafetensorsFile

    source = SafetensorsFile(path)
    return {name: source.read(name) for name in source.tensors}


def test_older_names_are_read(folder):
    """The VAE's query/key/value/proj_attn, and CLIP with its prefix and position numbers."""
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    new = stored_tensors(path)
    swaps = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    old = {}
    for name, array in new.items():
        for ours, theirs in swaps.items():
            name = name.replace(f"attentions.0.{ours}", f"attentions.0.{theirs}")
        old[name] = array
    assert len(set(new) - set(old)) == 16
    save_file(old, path)
    text_path = folder / "text_encoder/model.safetensors"
    text = {f"text_model.{name}": array for name, array in stored_tensors(text_path).items()}
    positions = {"text_model.embeddings.position_ids": np.arange(16)[None]}
    save_file({**text, **positions}, text_path)
    model = open_model(folder)
    assert model.components["vae"].source.tensors.keys() == new.keys()
    assert model.components["text_encoder"].source.tensors.keys() == text.keys()
    save_file({**old, **new}, path)
    with pytest.raises(DataError, match="twice, as"):
        open_model(folder)


def test_pickled_and_sharded_weights_are_read(folder):
    torch = pytest.importorskip("torch")
    state = stored_tensors(folder / "unet/diffusion_pytorch_model.safetensors")
    torch.save(
        {name: torch.from_numpy(array) for name, array in state.items()},
        folder / "unet/diffusion_pytorch_model.bin",
    )
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    source = open_model(folder).components["unet"].source
    assert source.origin.endswith(".bin")
    np.testing.assert_array_equal(source.read("conv_in.weight"), state["conv_in.weight"])
    (folder / "unet/diffusion_pytorch_model.bin").unlink()
    unet = tiny.make_unet()
    unet.save_pretrained(folder / "unet", max_shard_size="1MB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    source = open_model(folder).components["unet"].source
    assert source.tensors.keys() == state.keys()


def rewritten(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize(
    ("component", "entries", "said"),
    [
        ("vae", {"_class_name": "AutoencoderTiny"}, "AutoencoderTiny; a vae is a AutoencoderKL"),
        ("unet", {"_class_name": "UNet3DConditionModel"}, "UNet3DConditionModel; a unet is a"),
        ("text_encoder", {"architectures": ["T5EncoderModel"]}, "T5EncoderModel; a text_encoder"),
    ],
)
def test_a_component_of_another_class_is_named(folder, component, entries, said):
    rewritten(folder / component / "config.json", **entries)
    with pytest.raises(DataError, match=rf"{component}/config\.json is of the class {said}"):
        open_model(folder)


@pytest.mark.parametrize(
    ("pipeline", "part"),
    [
        ("StableDiffusionXLInstructPix2PixPipeline", "text_encoder_2"),
        ("FluxKontextPipeline", "transformer"),
        ("StableDiffusionControlNetPipeline", "controlnet"),
    ],
)
def test_a_pipeline_of_another_family_is_named(folder, pipeline, part):
    rewritten(folder / "model_index.json", _class_name=pipeline, **{part: ["diffusers", "X"]})
    with pytest.raises(DataError, match=f"is a {pipeline}, with {part}: no pipeline of the Stable"):
        open_model(folder)
    rewritten(folder / "model_index.json", **{part: [None, None]})
    open_model(folder)


def test_a_clip_with_a_projection_is_read_without_it(folder, tmp_path):
    """As `CLIPTextModelWithProjection` saves it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(**tiny.TEXT, projection_dim=24)
    model = tiny.randomized(transformers.CLIPTextModelWithProjection, config)
    shutil.rmtree(folder / "text_encoder")
    model.save_pretrained(folder / "text_encoder")
    opened = open_model(folder)
    assert opened.notes == (
        "text_encoder: 1 tensors that are not used left out, such as text_projection.weight",
    )
    convert(folder, tmp_path / "out")
    again, info = transformers.CLIPTextModel.from_pretrained(
        tmp_path / "out/text_encoder", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ids = np.arange(16)[None]
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        ours = again(torch.from_numpy(ids)).last_hidden_state
        theirs = model(torch.from_numpy(ids)).last_hidden_state
    assert torch.equal(ours, theirs)


def test_the_weights_tell_how_many_channels_the_unet_takes(folder):
    rewritten(folder / "unet/config.json", in_channels=4)
    model = open_model(folder)
    assert model.components["unet"].config["in_channels"] == 8
    assert model.notes == ("unet: takes 8 input channels, though its config.json says otherwise",)
    load_model(folder)


@pytest.mark.parametrize(
    ("channels", "said"), [(4, "a text-to-image model; mre convert"), (9, "an inpainting model")]
)
def test_what_is_no_editor_is_named(pipeline_folder, folder, channels, said):
    shutil.rmtree(folder / "unet")
    tiny.make_unet(in_channels=channels).save_pretrained(folder / "unet")
    with pytest.raises(DataError, match=rf"no editor: its UNet takes {channels} .*\({said}"):
        load_model(folder)
    if channels == 9:
        with pytest.raises(DataError, match=r"takes 9 input channels \(an inpainting model\)"):
            convert(folder, folder.parent / "out")


def test_an_addition_beside_the_weights_is_mentioned(folder):
    (folder / "pytorch_lora_weights.safetensors").touch()
    (folder / "unet/learned_embeds.bin").touch()
    assert open_model(folder).notes == (
        "pytorch_lora_weights.safetensors is a LoRA, merged only where --lora names it",
        "unet/learned_embeds.bin is a textual inversion embedding, which is not used",
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pytorch_lora_weights.safetensors", "is a LoRA"),
        ("ip-adapter_sd15.bin", "is an IP-Adapter"),
        ("adapter_model.safetensors", "is an adapter, merged only where --lora names it"),
        ("v1-5-pruned.ckpt", "name one of its files, as .*/v1-5-pruned.ckpt"),
        ("notes.txt", "it has notes.txt"),
        ("model.safetensors", "name one of its files, as .*/model.safetensors"),
        ("checkpoint-500/unet/config.json", "name one, as .*/checkpoint-500"),
        ("sub/model_index.json", "name one, as .*/sub"),
        ("snapshots/0123/model_index.json", "name one, as .*/snapshots/0123"),
        ("zero_to_fp32.py", "DeepSpeed's shards"),
        ("pytorch_model_fsdp_0/__0_0.distcp", "shards of torch.distributed"),
    ],
)
def test_a_folder_without_model_says_what_to_name_instead(tmp_path, name, said):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"is no model folder.*{said}"):
        ModelFolder.open(tmp_path)


@pytest.mark.parametrize("component", ["vae", "unet_ema"])
def test_weights_without_their_configuration_are_not_overlooked(folder, component, pipeline_folder):
    """Those of the base, or the raw ones, would be taken in their place without a word."""
    if component == "unet_ema":
        shutil.copytree(folder / "unet", folder / component)
    (folder / component / "config.json").unlink()
    with pytest.raises(DataError, match=f"{component} holds weights and no config.json"):
        open_model(folder, base=pipeline_folder)
    (folder / component / "config.json").symlink_to("../blobs/gone")
    with pytest.raises(DataError, match="a link to nothing"):
        open_model(folder)


@pytest.mark.parametrize("name", ["vae/config.json", "tokenizer/merges.txt"])
def test_a_pointer_in_place_of_a_small_file_is_named(folder, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (folder / name).write_text(pointer)
    with pytest.raises(DataError, match=f"{name}: a Git LFS pointer"):
        open_model(folder)


def test_a_model_without_scheduler_has_that_of_instruct_pix2pix(folder, tmp_path):
    """In one place, so that converting first, or not, makes the same edit."""
    place = folder / "scheduler/scheduler_config.json"
    stored = place.read_bytes()
    place.rename(folder / "scheduler/config.json")
    model = open_model(folder)
    assert model.files["scheduler/scheduler_config.json"] == stored
    assert model.notes == ("scheduler/config.json read as scheduler/scheduler_config.json",)
    shutil.rmtree(folder / "scheduler")
    assert open_model(folder, components=("unet",)).notes == ()
    with pytest.warns(UserWarning, match="no scheduler: InstructPix2Pix's is used"):
        pipeline = EditPipeline.from_pretrained(folder)
    assert pipeline.notes == ("no scheduler: InstructPix2Pix's is used",)
    assert convert(folder, tmp_path / "out").notes == pipeline.notes
    again = EditPipeline.from_pretrained(tmp_path / "out")
    assert again.schedule == pipeline.schedule and again.scheduler == pipeline.scheduler
    assert pipeline.scheduler == "euler_ancestral" and not again.notes


def test_a_scheduler_without_a_name_is_converted(folder, tmp_path):
    """It was a KeyError."""
    path = folder / "scheduler/scheduler_config.json"
    stated = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in stated.items() if key[0] != "_"}))
    convert(folder, tmp_path / "out")
    index = json.loads((tmp_path / "out/model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "EulerAncestralDiscreteScheduler"]


@pytest.mark.parametrize("stated", [None, {}, {"model_max_length": int(1e30)}])
def test_a_tokenizer_without_length_gets_that_of_the_text_encoder(folder, tmp_path, stated):
    """transformers would take 1e30 for it, in a folder that was converted too."""
    transformers = pytest.importorskip("transformers")
    path = folder / "tokenizer/tokenizer_config.json"
    path.unlink()
    (folder / "tokenizer/tokenizer.json").unlink(missing_ok=True)
    if stated is not None:
        path.write_text(json.dumps(stated))
    report = convert(folder, tmp_path / "out")
    assert report.notes == ("the tokenizer says no length: the text encoder's 16 tokens are taken",)
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path / "out/tokenizer")
    assert theirs.model_max_length == 16


def test_marks_of_other_systems_in_and_beside_small_files_are_left(folder, tmp_path):
    """PyTorch reads no JSON that begins with Windows's mark."""
    names = ("unet/config.json", "model_index.json", "scheduler/scheduler_config.json")
    for name in names:
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    (folder / "tokenizer/._vocab.json").write_bytes(b"\x00\x05\x16\x07")
    convert(folder, tmp_path / "out")
    for name in names:
        assert (tmp_path / "out" / name).read_bytes().startswith(b"{")
    assert not (tmp_path / "out/tokenizer/._vocab.json").exists()
