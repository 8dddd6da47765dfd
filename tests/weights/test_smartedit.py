import json
import shutil
import tracemalloc

import numpy as np
import pytest

from mre_jax.errors import ConfigError, DataError, MreError
from mre_jax.models.llama import LlamaConfig
from mre_jax.weights import smartedit, verify
from mre_jax.weights.files import writer
from mre_jax.weights.files.source import PickledFile, open_tensors
from mre_jax.weights.model import Component
from mre_jax.weights.names.rule import load
from mre_jax.weights.opening import model_at
from mre_jax.weights.smartedit_release import official_tensors

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tests.smartedit.tiny_tokenizer import tiny_model  # noqa: E402
from tests.weights import tiny, tiny_release  # noqa: E402

CLIP = "vision_model.encoder.layers.1.mlp.fc2"
FILES = {
    "LLM": tiny_release.LLM,
    "embeddings_qformer": tiny_release.JOINED,
    "modulate": tiny_release.BIM,
    "unet": tiny_release.UNET,
}


@pytest.fixture(scope="module")
def folder(release, pipeline_folder, tmp_path_factory):
    """The release as a model folder."""
    target = tmp_path_factory.mktemp("converted") / "smartedit"
    report = tiny.convert(release, target, base=pipeline_folder, verify=True)
    assert report.kind == "smartedit" and report.fits_pytorch
    assert report.notes[-1].startswith("qformer, bim: not compared")
    compared = {name.split(".")[0] for name in report.relative_error}
    assert compared == {"unet", "vae", "text_encoder", "llm", "vision", "projector"}
    return target


def _require_equal(source, place):
    stored = PickledFile(place)
    assert set(source.tensors) == set(stored.tensors)
    for name in stored.tensors:
        mine, theirs = source.read(name), stored.read(name)
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        assert mine.tobytes() == theirs.tobytes() or (
            "inv_freq" in name and np.allclose(mine, theirs, rtol=1e-6)
        )


def test_a_release_survives_our_folder_bit_for_bit(release, folder):
    with model_at(folder) as model:
        assert model.kind == "smartedit"
        assert model.files["llm_tokenizer/tokenizer.model"] == tiny_model()
        made = official_tensors(model.components)
        assert made.keys() == FILES.keys()
        for kind, source in made.items():
            _require_equal(source, release / FILES[kind])


def test_verifying_sees_each_part_that_it_compares(folder, tmp_path, monkeypatch):
    """Adapters that are left out and a bias that is moved are differences that show."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.setattr(verify, "_adapted", lambda down, up: lambda layer, inputs, out: out)
    stored = verify._tensors

    def moved(source):
        found = stored(source)
        return {n: x + 0.01 * (n in ("bias", f"{CLIP}.bias")) for n, x in found.items()}

    monkeypatch.setattr(verify, "_tensors", moved)
    checks = {name: verify._CHECKS[name] for name in ("llm", "vision", "projector")}
    for name, check in checks.items():
        ours, theirs = check(copy / name)
        assert min(verify._error(ours[key], theirs[key]) for key in theirs) > verify.TOLERANCE, name


def test_every_part_loads_as_its_network(folder):
    with model_at(folder) as model:
        assert set(model.components) == {
            *("unet", "vae", "text_encoder", "llm", "vision", "projector", "qformer", "bim")
        }
        for part in model.components.values():
            load(part.network(), part.source)
        llm = model.components["llm"]
        assert llm.config["num_attention_heads"] == 2 and llm.config["lora"]["r"] == 2
        layers = {
            name.split(".")[3]
            for name in model.components["vision"].source.tensors
            if ".layers." in name
        }
        assert layers == {"0", "1"}
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "SmartEditPipeline"


def test_an_editor_without_smartedits_parts_is_what_it_was(pipeline_folder):
    with model_at(pipeline_folder) as model:
        assert set(model.components) == {"unet", "vae", "text_encoder"}


def test_large_networks_are_written_in_shards(release, pipeline_folder, tmp_path, monkeypatch):
    whole = writer.write_weights

    def in_shards(*args):
        return whole(*args, shard_size=20_000)

    monkeypatch.setattr("mre_jax.weights.save.write_weights", in_shards)
    report = tiny.convert(release, tmp_path / "out", base=pipeline_folder)
    shards = [name for name in report.files if name.startswith("llm/model-0")]
    assert len(shards) > 1 and "llm/model.safetensors.index.json" in report.files
    with model_at(release, base=pipeline_folder) as before, model_at(tmp_path / "out") as after:
        for name in ("llm", "unet"):
            source, other = before.components[name].source, after.components[name].source
            assert set(source.tensors) == set(other.tensors)
            assert all(source.read(n).tobytes() == other.read(n).tobytes() for n in source.tensors)


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [
        (LlamaConfig.llama_7b(), (450, 133, 89, 686)),
        (LlamaConfig.llama_13b(), (562, 133, 89, 686)),
    ],
    ids=["7B", "13B"],
)
def test_full_sizes_have_the_key_counts_of_the_published_files(sizes, counts):
    configs = {
        "llm": {**sizes.to_dict(), "lora": tiny_release.ADAPTERS | {"r": 8}},
        "projector": {"hidden_size": sizes.hidden_size},
        "qformer": {"encoder_width": sizes.hidden_size},
        "bim": {},
        "unet": {"in_channels": 8, "cross_attention_dim": 768},
    }
    parts = {
        name: Component(name, config, b"", _Names(name, config)) for name, config in configs.items()
    }
    made = official_tensors(parts)
    assert tuple(len(made[kind].tensors) for kind in FILES) == counts


class _Names:
    """The tensors of a network without values."""

    def __init__(self, name, config):
        from mre_jax.weights.names.rule import expected_tensors

        self.origin = name
        self.tensors = expected_tensors(Component(name, config, b"", self).network())


def test_reading_needs_little_more_memory_than_what_is_kept(tmp_path, monkeypatch):
    """Every file holds the whole storage of what was trained, of which it keeps a part."""
    # The checksum of the archive is taken in such pieces, of 16 MiB otherwise.
    monkeypatch.setattr("mre_jax.weights.files.torch_zip._PIECE", 1 << 14)
    state = {f"layer.{index}.weight": torch.full((512, 1024), 1.0) for index in range(8)}
    release = tiny_release.write(tmp_path / "release", room=16_000_000, bim=state)
    place = release / tiny_release.BIM
    kept = sum(tensor.numel() * 4 for tensor in state.values())
    assert place.stat().st_size > 4 * kept
    tracemalloc.start()
    source = open_tensors(place)
    arrays = {name: source.read(name) for name in source.tensors}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(arrays) == len(state)
    assert peak < 1.3 * kept


def _without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


def test_all_that_is_missing_or_unknown_is_named_in_one_error(tmp_path):
    lacking = _without(tiny_release.bim(), "modulate_head.bias")
    strange = {**tiny_release.joined(), "sd_qformer.pooler.weight": torch.zeros(2, 2)}
    release = tiny_release.write(tmp_path / "release", bim=lacking, joined=strange)
    with pytest.raises(DataError) as raised:
        smartedit.open_release(release)
    message = str(raised.value)
    assert "1 missing: modulate_head.bias" in message and "88 tensors, not 89" in message
    assert "1 unexpected: sd_qformer.pooler.weight" in message


def test_a_stray_embedding_in_the_qformers_file_is_left_out(tmp_path):
    name = "model.base_model.model.embed_tokens.weight"
    strange = {**tiny_release.joined(), name: torch.zeros(tiny_release.VOCABULARY, 32)}
    release = tiny_release.write(tmp_path / "release", joined=strange)
    opened = smartedit.open_release(release)
    assert any(name in note for note in opened.notes)
    assert opened.components["llm"].source.read("model.embed_tokens.weight").any()


@pytest.mark.parametrize("part", [tiny_release.LLM, tiny_release.UNET])
def test_a_missing_part_is_named(release, tmp_path, part):
    copy = shutil.copytree(release, tmp_path / "copy")
    (copy / part).unlink()
    pattern = part.split("-")[0]
    with pytest.raises(DataError, match=rf"lacks {pattern}-\*/adapter_model.bin; fetch"):
        smartedit.open_release(copy)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"joined": "wide"}, DataError, r"qformer.bin is made for a width of 48, and .*LLM.* 32"),
        ({"r": 4}, DataError, r"adapters of rank 2, and .*adapter_config.json says r 4"),
        ({"target_modules": ["k_proj"]}, ConfigError, r"adapter_config.json: target_modules"),
        ({"clip": None}, DataError, "lacks CLIP's image encoder"),
        ({"tokenizer": None}, DataError, "lacks tokenizer.model"),
        ({"pieces": b""}, DataError, r"tokenizer.model has 0 pieces .* rows"),
        ({"pieces": b"pieces"}, DataError, "tokenizer.model is damaged; give"),
        ({"pieces": b"\x0a\x00" + tiny_model()}, DataError, "leaves 34 .* not 35; give"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(tmp_path, changes, error, message):
    wide = {"joined": tiny_release.joined(48)} if "joined" in changes else {}
    release = tiny_release.write(tmp_path / "release", **wide)
    adapters = {key: value for key, value in changes.items() if key in tiny_release.ADAPTERS}
    place = (release / tiny_release.LLM).with_name("adapter_config.json")
    place.write_text(json.dumps(tiny_release.ADAPTERS | adapters))
    if "clip" in changes:
        (release / "clip-vit-large-patch14" / "config.json").unlink()
    if "pieces" in changes:
        (release / "tokenizer.model").write_bytes(changes["pieces"])
    if "tokenizer" in changes:
        (release / "tokenizer.model").unlink()
    assert issubclass(error, MreError)
    with pytest.raises(error, match=message):
        smartedit.open_release(release)
