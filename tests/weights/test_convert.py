"""What `mre convert` writes is what PyTorch's libraries and ours read, and all of it or nothing."""

import argparse
import json
import shutil
import warnings

import numpy as np
import pytest
from safetensors.numpy import save_file

from mre_jax.commands import convert as command
from mre_jax.errors import ConfigError, DataError
from mre_jax.weights import save, verify
from mre_jax.weights.digest import weights_hash
from mre_jax.weights.files.source import SafetensorsFile
from tests.weights import tiny
from tests.weights.tiny import convert

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
FILES = (UNET_FILE, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")


def tensors(path):
    source = SafetensorsFile(path)
    return {name: source.read(name) for name in source.tensors}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def run(*argv):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(arg) for arg in argv]))


def loaded_pipeline(folder, **parts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, **parts)


def test_a_diffusers_folder_comes_through_bit_for_bit(pipeline_folder, tmp_path):
    report = convert(pipeline_folder, tmp_path / "out")
    assert report.kind == "diffusers" and report.weights == "only"
    for name in FILES[:2]:
        assert_same(tensors(tmp_path / "out" / name), tensors(pipeline_folder / name))
    text = tensors(pipeline_folder / FILES[2])
    prefixed = {f"text_model.{name}": array for name, array in text.items()}
    assert_same(tensors(tmp_path / "out" / FILES[2]), prefixed)
    for path in pipeline_folder.glob("*/*"):
        if path.suffix != ".safetensors":
            written = tmp_path / "out" / path.relative_to(pipeline_folder)
            assert written.read_bytes() == path.read_bytes(), path
    assert set(report.files) == {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")
    }


def test_the_result_loads_in_pytorch_with_no_missing_or_unexpected_tensor(
    pipeline_folder, tmp_path
):
    from transformers import CLIPTextModel

    out = tmp_path / "out"
    convert(pipeline_folder, out)
    for model_class, name in (
        (diffusers.UNet2DConditionModel, "unet"),
        (diffusers.AutoencoderKL, "vae"),
        (CLIPTextModel, "text_encoder"),
    ):
        _, info = model_class.from_pretrained(out / name, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"], name
        assert not info["mismatched_keys"], name
    pipe = loaded_pipeline(out)
    reference = loaded_pipeline(pipeline_folder)
    assert type(pipe.unet) is diffusers.UNet2DConditionModel
    for theirs, ours in zip(reference.unet.parameters(), pipe.unet.parameters(), strict=True):
        assert torch.equal(theirs, ours)
    assert pipe.tokenizer("abc").input_ids == reference.tokenizer("abc").input_ids


@pytest.mark.parametrize(("weights", "factor"), [(None, 0.5), ("ema", 0.5), ("raw", 1.0)])
def test_the_original_layout_gives_the_chosen_weights(
    original_file, pipeline_folder, tmp_path, weights, factor
):
    report = convert(original_file, tmp_path / "out", weights=weights, base=pipeline_folder)
    assert report.kind == "compvis"
    assert report.weights == (weights or "ema")
    unet = {name: t.numpy() * factor for name, t in tiny.make_unet().state_dict().items()}
    assert_same(tensors(tmp_path / "out" / UNET_FILE), unet)
    for name in FILES[1:]:
        theirs = tensors(pipeline_folder / name)
        if name == FILES[2]:
            theirs = {f"text_model.{key}": array for key, array in theirs.items()}
        assert_same(tensors(tmp_path / "out" / name), theirs)
    vae = json.loads((tmp_path / "out/vae/config.json").read_text())
    assert vae["scaling_factor"] == 0.18215
    scheduler = loaded_pipeline(tmp_path / "out").scheduler
    assert type(scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    assert (scheduler.config.beta_start, scheduler.config.steps_offset) == (0.00085, 1)


def test_the_original_layout_needs_a_tokenizer_or_consent(original_file, tmp_path):
    with pytest.raises(DataError, match=r"no tokenizer.*--base FOLDER.*--no-tokenizer"):
        convert(original_file, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    convert(original_file, tmp_path / "out", tokenizer=False)
    index = json.loads((tmp_path / "out/model_index.json").read_text())
    assert index["tokenizer"] == [None, None]
    assert not (tmp_path / "out/tokenizer").exists()


def test_a_text_to_image_model_becomes_an_editor_that_starts_equal(tmp_path):
    """SD1.5's UNet takes 4 channels; on a zero image condition the editor gives the same noise."""
    base = tiny.make_unet(in_channels=4)
    base.save_pretrained(tmp_path / "base")
    report = convert(tmp_path / "base", tmp_path / "editor")
    assert any("expanded to 8" in note for note in report.notes)
    editor = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "editor")
    assert editor.config.in_channels == 8
    assert torch.equal(editor.conv_in.bias, base.conv_in.bias)
    assert not editor.conv_in.weight[:, 4:].any()
    sample, states = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 64)
    with torch.no_grad():
        ours = editor(torch.cat([sample, torch.zeros_like(sample)], 1), 7, states).sample
        theirs = base(sample, 7, states).sample
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 * theirs.abs().max().item())
    convert(tmp_path / "base", tmp_path / "kept", in_channels=4)
    kept = tmp_path / "kept/diffusion_pytorch_model.safetensors"
    assert_same(tensors(kept), tensors(tmp_path / "base/diffusion_pytorch_model.safetensors"))
    assert not convert(tmp_path / "editor", tmp_path / "again").notes
    with pytest.raises(DataError, match="cannot be made to take 4"):
        convert(tmp_path / "editor", tmp_path / "cut", in_channels=4)


def reward_unet(form):
    from mre_jax.pytorch import RewardUNet2DConditionModel
    from mre_jax.reward.config import RewardConfig

    reward = RewardConfig(form=form, score_width=32, num_attention_heads=4)
    return tiny.randomized(RewardUNet2DConditionModel, **tiny.UNET, reward=reward.to_dict())


def test_the_released_form_is_recognised_by_its_tensors_and_keeps_their_names(
    pipeline_folder, tmp_path
):
    source = tmp_path / "released"
    shutil.copytree(pipeline_folder, source)
    unet = reward_unet("released")
    unet.save_pretrained(source / "unet")
    # As published: the configuration is that of the plain class.
    config = json.loads((source / "unet/config.json").read_text())
    del config["reward"]
    config["_class_name"] = "UNet2DConditionModel"
    (source / "unet/config.json").write_text(json.dumps(config))

    report = convert(source, tmp_path / "out")
    assert report.kind == "released"
    assert_same(tensors(tmp_path / "out" / UNET_FILE), tensors(source / UNET_FILE))
    written = json.loads((tmp_path / "out/unet/config.json").read_text())
    assert written["reward"]["form"] == "released" and written["reward"]["score_width"] == 32
    index = json.loads((tmp_path / "out/model_index.json").read_text())
    assert index["unet"] == ["mre_jax.pytorch", "RewardUNet2DConditionModel"]
    again = convert(tmp_path / "out/unet", tmp_path / "again", verify=True)
    assert again.kind == "released"
    assert max(again.relative_error.values()) < verify.TOLERANCE
    name = "diffusion_pytorch_model.safetensors"
    assert_same(tensors(tmp_path / "again" / name), tensors(source / UNET_FILE))


def test_the_paper_form_loads_in_pytorch(pipeline_folder, tmp_path):
    from mre_jax.pytorch import RewardUNet2DConditionModel

    source = tmp_path / "unet"
    reward_unet("paper").save_pretrained(source)
    report = convert(source, tmp_path / "out", verify=True)
    assert max(report.relative_error.values()) < verify.TOLERANCE
    unet, info = RewardUNet2DConditionModel.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert unet.config.reward["form"] == "paper"


def test_a_pipeline_with_a_reward_unet_loads_once_its_class_is_imported(pipeline_folder, tmp_path):
    import mre_jax.pytorch

    shutil.copytree(pipeline_folder, tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole/unet")
    reward_unet("paper").save_pretrained(tmp_path / "whole/unet")
    convert(tmp_path / "whole", tmp_path / "out")
    unet = loaded_pipeline(tmp_path / "out").unet
    assert type(unet) is mre_jax.pytorch.RewardUNet2DConditionModel


def test_orbax_and_back_is_the_same_model(pipeline_folder, tmp_path):
    convert(pipeline_folder, tmp_path / "ours", format="orbax")
    assert not list((tmp_path / "ours").rglob("*.safetensors"))
    report = convert(tmp_path / "ours", tmp_path / "back")
    assert report.kind == "orbax"
    assert_same(tensors(tmp_path / "back" / UNET_FILE), tensors(pipeline_folder / UNET_FILE))
    hashes = {weights_hash(tmp_path / name) for name in ("ours", "back")}
    assert hashes == {weights_hash(pipeline_folder)}


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 2), ("bfloat16", 2), ("float32", 4)])
def test_weights_may_be_narrowed(pipeline_folder, tmp_path, dtype, bits):
    convert(pipeline_folder, tmp_path / "out", dtype=dtype)
    for name in FILES:
        source = SafetensorsFile(tmp_path / "out" / name)
        assert {info.dtype.itemsize for info in source.tensors.values()} == {bits}
    text = json.loads((tmp_path / "out/text_encoder/config.json").read_text())
    assert text["dtype"] == dtype
    pipe = loaded_pipeline(tmp_path / "out")
    assert pipe.text_encoder.dtype is getattr(torch, dtype)
    assert weights_hash(tmp_path / "out") == weights_hash(tmp_path / "out")
    assert (weights_hash(tmp_path / "out") == weights_hash(pipeline_folder)) is (bits == 4)


def copied_with(source, target, component, change):
    """A copy of a model folder in which `change` was applied to one component's tensors."""
    shutil.copytree(source, target)
    path = next((target / component).glob("*.safetensors"))
    state = tensors(path)
    change(state)
    save_file(state, path)
    return target


def test_everything_that_does_not_fit_is_told_at_once_and_nothing_is_written(
    pipeline_folder, tmp_path
):
    def spoil(state):
        del state["conv_in.bias"]
        state["intruder"] = np.zeros(3, np.float32)
        state["conv_out.weight"] = np.zeros((4, 32, 1, 1), np.float32)
        state["conv_norm_out.bias"][5] = np.nan
        state["time_embedding.linear_1.bias"] = np.zeros(128, np.int32)

    source = copied_with(pipeline_folder, tmp_path / "spoiled", "unet", spoil)
    with pytest.raises(DataError) as error:
        convert(source, tmp_path / "out")
    text = str(error.value)
    assert "\n" not in text and str(source) in text
    for part in (
        "1 missing: conv_in.bias",
        "1 unexpected: intruder",
        "conv_out.weight is [4, 32, 1, 1], not [4, 32, 3, 3]",
        "time_embedding.linear_1.bias is int32, not floating-point",
        "1 not finite: conv_norm_out.bias",
    ):
        assert part in text
    assert [path.name for path in tmp_path.iterdir()] == ["spoiled"]


def test_what_an_interrupted_download_left_blank_is_refused(pipeline_folder, tmp_path):
    """Programs that take room for a file at once leave zeros of the right length."""
    model = shutil.copytree(pipeline_folder, tmp_path / "model")
    path = next((model / "unet").glob("*.safetensors"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(DataError, match="only zeros, as an interrupted download leaves them"):
        convert(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_finite_are_refused(pipeline_folder, tmp_path, component):
    def spoil(state):
        state[max(state)].flat[0] = np.inf

    source = copied_with(pipeline_folder, tmp_path / "spoiled", component, spoil)
    with pytest.raises(DataError, match="1 not finite"):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_narrowing_that_overflows_is_refused(pipeline_folder, tmp_path):
    def spoil(state):
        state["conv_in.bias"][0] = 1e6

    source = copied_with(pipeline_folder, tmp_path / "large", "unet", spoil)
    with pytest.raises(DataError, match=r"1 not finite: conv_in\.bias"):
        convert(source, tmp_path / "out", dtype="float16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"addition_embed_type": "text_time"}, "addition_embed_type 'text_time'"),
        ({"class_embed_type": "timestep"}, "class_embed_type 'timestep'"),
        ({"down_block_types": ["SimpleCrossAttnDownBlock2D"] * 2}, "SimpleCrossAttnDownBlock2D"),
    ],
)
def test_another_architecture_is_a_config_error(pipeline_folder, tmp_path, change, message):
    source = tmp_path / "other"
    shutil.copytree(pipeline_folder, source)
    config = json.loads((source / "unet/config.json").read_text())
    (source / "unet/config.json").write_text(json.dumps(config | change))
    with pytest.raises(ConfigError, match=message):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_config_entries_override_the_unets(pipeline_folder, tmp_path):
    (tmp_path / "heads.json").write_text('{"attention_head_dim": 4}')
    convert(pipeline_folder, tmp_path / "out", config=tmp_path / "heads.json")
    config = json.loads((tmp_path / "out/unet/config.json").read_text())
    assert config["attention_head_dim"] == 4


def test_the_command_prints_what_it_did(original_file, pipeline_folder, tmp_path, capsys):
    code = run(original_file, tmp_path / "out", "--base", pipeline_folder, "--verify")
    out = capsys.readouterr().out
    assert code == 0
    assert "compvis model, the EMA weights" in out
    assert "tokenizer taken from" in out
    assert f"  {UNET_FILE}" in out and "sha256 " in out
    report = json.loads((tmp_path / "out/verify.json").read_text())
    assert report["tolerance"] == 1e-4
    assert set(report["relative_error"]) == {
        *("unet.sample", "vae.mean", "vae.logvar", "vae.image"),
        *("text_encoder.last_hidden_state", "text_encoder.pooler_output"),
    }
    assert max(report["relative_error"].values()) < 1e-4


def test_a_lora_is_merged_into_what_is_written(pipeline_folder, tmp_path, capsys):
    lora = tmp_path / "style.safetensors"
    save_file({"lora_unet_conv_out.diff_b": np.full(4, 2.0, np.float32)}, lora)
    arguments = ("--lora", f"{lora}:0.5", "--lora", f"{lora}:2")
    assert run(pipeline_folder, tmp_path / "out", *arguments, "--verify") == 0
    out = capsys.readouterr().out
    assert f"merged {lora} at scale 0.5: 1 layers of unet\n" in out and "at scale 2: " in out
    plain, merged = (tensors(folder / UNET_FILE) for folder in (pipeline_folder, tmp_path / "out"))
    plain["conv_out.bias"] = plain["conv_out.bias"] + 5
    assert_same(merged, plain)
    assert weights_hash(tmp_path / "out") == weights_hash(pipeline_folder, lora=[(lora, 2.5)])


def test_a_lora_of_a_text_to_image_model_becomes_an_editors(tmp_path):
    """It is merged before conv_in grows, so the editor starts as the model with the LoRA."""
    tiny.make_unet(in_channels=4).save_pretrained(tmp_path / "base")
    lora = tmp_path / "style.safetensors"
    save_file({"lora_unet_conv_in.diff": np.ones((32, 4, 3, 3), np.float32)}, lora)
    convert(tmp_path / "base", tmp_path / "editor", lora=lora)
    name = "diffusion_pytorch_model.safetensors"
    base, editor = (tensors(tmp_path / f / name)["conv_in.weight"] for f in ("base", "editor"))
    np.testing.assert_array_equal(editor[:, :4], base + 1)
    assert not editor[:, 4:].any()


@pytest.mark.parametrize("error", [2e-4, float("nan")])
def test_a_difference_to_pytorch_fails_the_command(pipeline_folder, tmp_path, monkeypatch, error):
    monkeypatch.setattr(verify, "verify", lambda folder: {"unet.sample": error})
    assert run(pipeline_folder, tmp_path / "out", "--verify") == 65


def test_verify_is_refused_where_it_cannot_be_done(pipeline_folder, tmp_path):
    with pytest.raises(ConfigError, match="--verify"):
        convert(pipeline_folder, tmp_path / "out", format="orbax", verify=True)
    with pytest.raises(ConfigError, match="'tensorflow'"):
        convert(pipeline_folder, tmp_path / "out", format="tensorflow")


def test_a_full_disk_leaves_nothing_behind(pipeline_folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save, "_save_surroundings", full)
    with pytest.raises(DataError, match="no space left"):
        convert(pipeline_folder, tmp_path / "out")
    assert not list(tmp_path.iterdir())
