"""`mre convert --fresh-smartedit`: LLaVA and an editor become what stage 1 starts from."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.json_file import to_bytes
from mre_jax.weights.convert import ConvertSpec, convert
from mre_jax.weights.load import load_model
from mre_jax.weights.opening import model_at
from tests.smartedit.tiny_tokenizer import tiny_model, tiny_tokenizer
from tests.tiny_smartedit import tiny_smartedit

WORDS = tiny_tokenizer().base_size
TABLES = ("model.embed_tokens.weight", "lm_head.weight")
ADDED = 35
_OWN = ("llm", "vision", "projector", "qformer", "bim")


def tensors(folder):
    """Every tensor, by component."""
    with model_at(folder) as model:
        return {
            name: {key: part.source.read(key) for key in part.source.tensors}
            for name, part in model.components.items()
        }


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    """An InstructPix2Pix."""
    folder = tmp_path_factory.mktemp("editor") / "model"
    left_out = shutil.ignore_patterns(*_OWN, "llm_tokenizer", "model_index.json")
    return shutil.copytree(tiny_smartedit(), folder, ignore=left_out)


@pytest.fixture(scope="module")
def tables():
    """LLaVA's, whose three last rows are of <im_patch>, <im_start> and <im_end>."""
    rng = np.random.default_rng(0)
    shape = (WORDS + 3, 32)
    return {name: rng.normal(size=shape).astype(np.float16) for name in TABLES}


@pytest.fixture(scope="module")
def stored(tables):
    """The tensors of a small LLaVA."""
    parts = tensors(tiny_smartedit())
    own = {name: a.astype(np.float16) for name, a in parts["llm"].items() if ".lora_" not in name}
    projector = {f"model.mm_projector.{name}": a for name, a in parts["projector"].items()}
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}
    return {**own, **projector, **tables, **frequencies}


def write_llava(folder, stored):
    folder.mkdir()
    save_file(stored, folder / "model.safetensors")
    config = {
        "model_type": "llava",
        "vocab_size": WORDS + 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "rms_norm_eps": 1e-6,
    }
    (folder / "config.json").write_bytes(to_bytes(config))
    shutil.copytree(tiny_smartedit() / "vision", folder / "clip-vit-large-patch14")
    (folder / "tokenizer.model").write_bytes(tiny_model())
    return folder


@pytest.fixture(scope="module")
def made(editor, stored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh")
    llava = write_llava(folder / "llava", stored)
    convert(ConvertSpec(editor, folder / "out", fresh_smartedit=llava))
    return folder / "out"


def test_what_others_have_learnt_keeps_its_bits(made, editor, stored):
    found = tensors(made)
    for component, arrays in tensors(editor).items():
        for name, array in arrays.items():
            assert found[component][name].tobytes() == array.tobytes(), name
    for name, array in found["llm"].items():
        if name not in TABLES and ".lora_" not in name:
            assert np.array_equal(array, stored[name]), name
    for name, array in found["projector"].items():
        assert np.array_equal(array, stored[f"model.mm_projector.{name}"])
    for name, array in tensors(tiny_smartedit())["vision"].items():
        assert np.array_equal(found["vision"][name], array)


def test_llava_has_two_of_the_added_rows_and_the_others_are_the_mean(made, tables):
    for name, table in tables.items():
        found = tensors(made)["llm"][name]
        assert len(found) == WORDS + ADDED
        assert np.array_equal(found[:WORDS], table[:WORDS])
        assert np.array_equal(found[WORDS + 1 : WORDS + 3], table[WORDS + 1 :])
        mean = table[:WORDS].astype(np.float64).mean(axis=0)
        for row in (WORDS, *range(WORDS + 3, WORDS + ADDED)):
            np.testing.assert_allclose(found[row], mean, atol=1e-3)


def test_what_is_new_changes_nothing_yet(made):
    found = tensors(made)
    updates = [array for name, array in found["llm"].items() if ".lora_B." in name]
    assert len(updates) == 4 and not any(array.any() for array in updates)
    heads = [a for name, a in found["bim"].items() if name.startswith("dimension_reduction_head")]
    assert len(heads) == 4 and not any(array.any() for array in heads)
    assert found["qformer"]["query_tokens"].any()


def test_the_folder_loads_as_a_smartedit(made):
    encoder = load_model(made).instruction_encoder
    assert encoder.qformer.config.query_length == 77
    assert encoder.qformer.config.num_hidden_layers == 6
    assert encoder.llm.lora.r == 8


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("lm_head.weight", "llava lacks lm_head.weight; give LLaVA-v1.1"),
        ("model.norm.weight", "llava lacks model.norm.weight; give LLaVA-v1.1"),
        ("model.mm_projector.bias", "llava lacks model.mm_projector.bias; give LLaVA-v1.1"),
    ],
)
def test_another_folder_is_refused(editor, stored, tmp_path, lacking, message):
    rest = {name: array for name, array in stored.items() if name != lacking}
    llava = write_llava(tmp_path / "llava", rest)
    with pytest.raises(DataError, match=message):
        convert(ConvertSpec(editor, tmp_path / "out", fresh_smartedit=llava))
    assert not (tmp_path / "out").exists()


def test_a_smartedit_is_not_made_anew(tmp_path):
    spec = ConvertSpec(tiny_smartedit(), tmp_path / "out", fresh_smartedit=tmp_path)
    with pytest.raises(ConfigError, match="is a SmartEdit; leave --fresh-smartedit out"):
        convert(spec)
