"""One file that is a whole model, or lacks a part of one, with and without a base."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mre_jax.editing.pipeline import EditPipeline
from mre_jax.errors import DataError
from mre_jax.weights.files.folder import COMPONENTS
from mre_jax.weights.files.torch_zip import PickledCheckpoint, state_dict
from mre_jax.weights.load import load_unet, load_vae
from mre_jax.weights.names.rule import expected_tensors, tensors
from mre_jax.weights.opening import open_model
from tests.weights import tiny
from tests.weights.tiny import convert

torch = pytest.importorskip("torch")

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."


@pytest.fixture(scope="module")
def whole():
    models = tiny.make_unet(), tiny.make_vae(), tiny.make_text_encoder()
    state = tiny.original_checkpoint(*models, None)["state_dict"]
    return {name: tensor.numpy() for name, tensor in state.items()}


def without(state, *prefixes):
    return {name: array for name, array in state.items() if not name.startswith(prefixes)}


def only(state, prefix, new):
    return {
        new + name.removeprefix(prefix): array
        for name, array in state.items()
        if name.startswith(prefix)
    }


def diffusers_names(pipeline_folder, component, prefix=""):
    (path,) = (pipeline_folder / component).glob("*.safetensors")
    return {prefix + name: array for name, array in load_file(path).items()}


def as_torch(state):
    return {name: torch.from_numpy(array) for name, array in state.items()}


def assert_equal_networks(model, pipeline_folder):
    reference = open_model(pipeline_folder)
    for name in COMPONENTS:
        ours, theirs = model.components[name].source, reference.components[name].source
        assert ours.tensors.keys() == theirs.tensors.keys()
        for tensor in theirs.tensors:
            np.testing.assert_array_equal(ours.read(tensor), theirs.read(tensor), err_msg=tensor)
        model.components[name].network()


FILES = {
    "whole": (lambda s, _: s, ()),
    "without VAE": (lambda s, _: without(s, VAE), ("vae",)),
    "without CLIP": (lambda s, _: without(s, TEXT), ("text_encoder",)),
    "UNet": (lambda s, _: only(s, UNET, UNET), ("vae", "text_encoder")),
    "UNet without its first prefix": (
        lambda s, _: only(s, UNET, "diffusion_model."),
        ("vae", "text_encoder"),
    ),
    "UNet, bare": (lambda s, _: only(s, UNET, ""), ("vae", "text_encoder")),
    "UNet of a compiled module": (
        lambda s, _: only(s, UNET, f"{UNET}_orig_mod."),
        ("vae", "text_encoder"),
    ),
    "VAE": (lambda s, _: only(s, VAE, VAE), ("unet", "text_encoder")),
    "VAE, bare": (lambda s, _: only(s, VAE, ""), ("unet", "text_encoder")),
    "all in a wrapper": (lambda s, _: {f"module.{k}": v for k, v in s.items()}, ()),
    "UNet in diffusers' names": (lambda _, f: diffusers_names(f, "unet"), ("vae", "text_encoder")),
    "VAE in diffusers' names": (lambda _, f: diffusers_names(f, "vae"), ("unet", "text_encoder")),
    "CLIP": (lambda _, f: diffusers_names(f, "text_encoder"), ("unet", "vae")),
    "all in diffusers' names": (
        lambda _, f: {k: v for n in COMPONENTS for k, v in diffusers_names(f, n, f"{n}.").items()},
        (),
    ),
}
WORDS = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder"}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_completed_from_its_base(kind, whole, pipeline_folder, tmp_path):
    """As model sites give them out: pruned of a part that everybody has."""
    make, lacking = FILES[kind]
    path = tmp_path / "model.safetensors"
    save_file(make(whole, pipeline_folder), path)
    model = open_model(path, base=pipeline_folder)
    assert_equal_networks(model, pipeline_folder)
    assert any(", ".join([*lacking, "tokenizer"]) in note for note in model.notes) or lacking
    if lacking:
        first = next(name for name in COMPONENTS if name in lacking)
        with pytest.raises(DataError, match=rf"lacks the {WORDS[first]}; .*--base"):
            convert(path, tmp_path / "out")


def test_a_network_of_a_file_loads_without_the_others(whole, pipeline_folder, tmp_path):
    save_file(only(whole, UNET, UNET), tmp_path / "unet.safetensors")
    save_file(only(whole, VAE, ""), tmp_path / "vae.safetensors")
    for load, name in ((load_unet, "unet"), (load_vae, "vae")):
        ours = dict(tensors(load(tmp_path / f"{name}.safetensors")))
        for key, array in tensors(load(pipeline_folder)):
            np.testing.assert_array_equal(ours[key], array)


@pytest.mark.parametrize(
    "name",
    [
        *("first_stage_model.loss.discriminator.main.0.weight", "cond_stage_model.logit_scale"),
        *("cond_stage_model.transformer.text_projection.weight", "embedding_manager.x"),
        *("cond_stage_model.text_projection", "first_stage_model.loss.logvar"),
    ],
)
def test_what_no_edit_reads_is_left_out_with_a_note(name, whole, pipeline_folder, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({**whole, name: np.ones((2, 2), np.float32)}, path)
    model = open_model(path)
    assert_equal_networks(model, pipeline_folder)
    assert "1 tensors that are not used left out" in model.notes[0]


def test_what_shapes_do_not_show_is_as_in_the_base(tmp_path):
    """Another number of heads has the same tensors, and other pictures."""
    base = tiny.write_pipeline(tmp_path / "base", tiny.make_unet(attention_head_dim=4))
    path = base / "unet/diffusion_pytorch_model.safetensors"
    assert open_model(path, base=base).components["unet"].config["attention_head_dim"] == 4
    alone = open_model(path, components=("unet",))
    assert alone.components["unet"].config["attention_head_dim"] == 8


def test_a_reward_unet_in_a_file_has_the_condition_of_its_base(tmp_path):
    from mre_jax.pytorch import RewardUNet2DConditionModel
    from mre_jax.reward.config import RewardConfig

    reward = RewardConfig(form="paper", score_width=32, num_attention_heads=4)
    unet = tiny.randomized(RewardUNet2DConditionModel, **tiny.UNET, reward=reward.to_dict())
    unet.save_pretrained(tmp_path / "unet")
    path = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    component = open_model(path, base=tmp_path, components=("unet",)).components["unet"]
    assert component.reward == reward
    assert expected_tensors(component.network()).keys() == component.source.tensors.keys()


def test_a_unet_of_diffusers_has_the_schedule_of_its_base(pipeline_folder, whole, tmp_path):
    """It was trained on; a file of the original layout has the original's."""
    base = open_model(pipeline_folder).files["scheduler/scheduler_config.json"]
    unet = pipeline_folder / "unet/diffusion_pytorch_model.safetensors"
    ours = open_model(unet, base=pipeline_folder)
    assert ours.files["scheduler/scheduler_config.json"] == base
    save_file(whole, tmp_path / "whole.safetensors")
    original = open_model(tmp_path / "whole.safetensors", base=pipeline_folder)
    assert b'"scaled_linear"' in original.files["scheduler/scheduler_config.json"]
    assert "no scheduler: InstructPix2Pix's is used" in original.notes


def test_a_file_edits_with_a_base_and_says_what_it_lacks(whole, pipeline_folder, tmp_path):
    path = tmp_path / "whole.safetensors"
    save_file(whole, path)
    with pytest.raises(DataError, match=r"whole\.safetensors has no tokenizer; .*--base"):
        EditPipeline.from_pretrained(path)
    with pytest.warns(UserWarning, match=rf"{path}: (no scheduler|.*taken from {pipeline_folder})"):
        pipeline = EditPipeline.from_pretrained(path, base=pipeline_folder)
    convert(path, tmp_path / "folder", base=pipeline_folder)
    assert pipeline.checkpoint == EditPipeline.from_pretrained(tmp_path / "folder").checkpoint
    assert "no scheduler: InstructPix2Pix's is used" in pipeline.notes


ROW = np.ones(768, np.float32)
FOREIGN = {
    "a LoRA.*--lora": {"unet.down_blocks.0.attentions.0.to_q.lora_A.weight": np.ones((4, 32))},
    "textual inversion": {"<my-style>": ROW},
    "textual inversion embedding": {"emb_params": np.ones((2, 768))},
    "a ControlNet": {"controlnet_cond_embedding.conv_in.weight": np.ones((16, 3, 3, 3))},
    "a ControlNet,": {"control_model.time_embed.0.weight": np.ones((16, 3))},
    "an IP-Adapter": {"image_proj.proj.weight": np.ones((16, 3)), "ip_adapter.1.x": ROW},
    "a Stable Diffusion XL": {"conditioner.embedders.0.transformer.x": ROW},
    "a Stable Diffusion 3": {"model.diffusion_model.joint_blocks.0.x_block.attn.q": ROW},
    "a Flux": {"double_blocks.0.img_attn.qkv.weight": np.ones((16, 3))},
    "a Stable Diffusion 2": {"cond_stage_model.model.token_embedding.weight": np.ones((16, 3))},
    "a T5": {"encoder.block.0.layer.0.SelfAttention.q.weight": np.ones((16, 3))},
    "no UNet, VAE or text encoder that is known": {"something.else": np.ones((16, 3))},
}


@pytest.mark.parametrize("what", FOREIGN)
def test_another_kind_of_file_is_called_by_its_name(what, tmp_path, pipeline_folder):
    path = tmp_path / "file.safetensors"
    save_file({name: array.astype(np.float32) for name, array in FOREIGN[what].items()}, path)
    with pytest.raises(DataError, match=what) as error:
        open_model(path, base=pipeline_folder)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty; fetch it again"),
        (
            b"<!DOCTYPE html>\n<html><body>Sign in</body></html>" * 9,
            "an HTML page .*fetch it again",
        ),
        (b'{"error": "Entry not found"}', r"text \('{.*fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "fetch it again"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".bin"])
def test_what_is_no_weight_file_is_said_in_one_line(content, what, suffix, tmp_path):
    path = (tmp_path / "model").with_suffix(suffix)
    path.write_bytes(content)
    with pytest.raises(DataError, match=what) as error:
        open_model(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("entry", ["state_dict", "model", "module", "unet"])
def test_tensors_are_found_in_the_entry_that_a_trainer_made(entry, tmp_path):
    path = tmp_path / "checkpoint.pt"
    network = {"a": torch.ones(3), "b": torch.ones(3)}
    other = {
        "step": torch.tensor(3),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
        "metrics": {"best": np.float64(0.5)},
    }
    torch.save({entry: network, **other}, path)
    assert list(PickledCheckpoint(path).tensors) == ["a", "b"]
    torch.save({"a": {"deep": {entry: network}}}, path)
    assert list(PickledCheckpoint(path).tensors) == ["a", "b"]


def test_several_networks_in_one_pickle_are_told_apart_by_the_names_of_their_dicts(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": {"a": torch.ones(3)}, "ema": {"a": torch.ones(3)}}, path)
    assert list(PickledCheckpoint(path).tensors) == ["model.a", "ema.a"]


def test_a_whole_model_may_be_a_dict_for_each_network(pipeline_folder, tmp_path):
    path = tmp_path / "all.ckpt"
    networks = {name: as_torch(diffusers_names(pipeline_folder, name)) for name in COMPONENTS}
    torch.save({**networks, "global_step": torch.tensor(3)}, path)
    assert_equal_networks(open_model(path, base=pipeline_folder), pipeline_folder)


def test_two_sets_of_weights_in_one_pickle_are_refused(pipeline_folder, tmp_path):
    path = tmp_path / "both.pt"
    unet = as_torch(diffusers_names(pipeline_folder, "unet"))
    torch.save({"model": unet, "ema": dict(unet)}, path)
    with pytest.raises(DataError, match=r"several times, under 'ema\.', 'model\.'; keep one"):
        open_model(path, base=pipeline_folder)


def test_a_pickle_that_holds_itself_is_read_to_its_end(tmp_path):
    root = {"a": torch.ones(3)}
    root["self"] = root
    torch.save(root, tmp_path / "circle.pt")
    assert list(PickledCheckpoint(tmp_path / "circle.pt").tensors) == ["a"]
    deep: dict = {}
    inner = deep
    for _ in range(20_000):
        inner["x"] = {}
        inner = inner["x"]
    with pytest.raises(DataError, match="dicts within dicts"):
        state_dict(deep, tmp_path / "deep.pt")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"string_to_param": {"*": torch.ones(1, 768)}, "name": "x"}, "textual inversion"),
        ({768: [{"linear.weight": torch.ones(2, 2)}], "step": 1}, "hypernetwork"),
        ({"image_proj": {"a": torch.ones(2)}, "ip_adapter": {"b": torch.ones(2)}}, "IP-Adapter"),
    ],
)
def test_pickles_of_other_kinds_are_named(content, kind, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(DataError, match=kind) as error:
        open_model(tmp_path / "other.pt")
    assert "\n" not in str(error.value)


ONE = np.ones((2, 2), np.float32)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("adapter.body.0.resnets.0.block1.weight",), "a T2I-Adapter"),
        (("transformer_blocks.0.attn.add_q_proj.weight", "single_transformer_blocks.0.x"), "Flux"),
        (("transformer_blocks.0.attn.add_q_proj.weight",), "Stable Diffusion 3"),
        (("conv_in.weight", "time_embedding.cond_proj.weight"), "latent consistency"),
        (("conv_in.weight", "class_embedding.linear_1.weight"), "upscaler or unCLIP"),
        (("decoder.layers.0.weight", "decoder.layers.12.conv.0.bias"), "TAESD"),
        (("3.conv.0.weight",), "TAESD"),
        (("decoder_unet.conv_in.weight", "encoder.conv_in.weight"), "consistency decoder"),
        (("decoder.condition_encoder.layers.0.weight",), "asymmetric VAE"),
        (("encoder.conv_in.weight", "quantize.embedding.weight"), "VQ-VAE"),
        (("concept_embeds", "vision_model.vision_model.x"), "safety checker"),
        (("text_model.x", "vision_model.embeddings.class_embedding"), "CLIP for pictures"),
    ],
)
def test_models_of_other_kinds_are_refused_by_name(names, kind, tmp_path):
    save_file(dict.fromkeys(names, ONE), tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=kind):
        open_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize(("width", "kind"), [(1024, "Diffusion 2"), (2048, "Diffusion XL")])
def test_a_unet_that_reads_another_familys_texts_is_refused_by_name(width, kind, tmp_path):
    """Heads and norms of such a UNet show in no shape: it would be run wrongly."""
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    save_file({name: np.ones((2, width), np.float32)}, tmp_path / "unet.safetensors")
    with pytest.raises(DataError, match=kind):
        open_model(tmp_path / "unet.safetensors")


@pytest.mark.parametrize(("channels", "kind"), [(5, "depth"), (7, "upscaler"), (9, "inpainting")])
def test_channels_of_another_meaning_are_not_made_an_editors(
    channels, kind, pipeline_folder, tmp_path
):
    """New ones with zero weights would take the original picture for depth."""
    unet = diffusers_names(pipeline_folder, "unet")
    kernel = unet["conv_in.weight"]
    unet["conv_in.weight"] = np.resize(kernel, (len(kernel), channels, *kernel.shape[2:]))
    save_file(unet, tmp_path / "unet.safetensors")
    with pytest.raises(DataError, match=kind):
        convert(tmp_path / "unet.safetensors", tmp_path / "out", base=pipeline_folder)


@pytest.mark.parametrize("name", ["unet.ckpt", "unet.SAFETENSORS", "unet.safetensors", "unet.bin"])
def test_a_file_is_what_its_first_bytes_say(name, pipeline_folder, tmp_path):
    """People rename files; a pickle is executed under no name."""
    unet = diffusers_names(pipeline_folder, "unet")
    save_file(unet, tmp_path / name)
    assert_equal_networks(open_model(tmp_path / name, base=pipeline_folder), pipeline_folder)
    torch.save(as_torch(unet), tmp_path / name)
    assert_equal_networks(open_model(tmp_path / name, base=pipeline_folder), pipeline_folder)
