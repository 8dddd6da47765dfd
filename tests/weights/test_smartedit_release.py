"""A SmartEdit in the files of its official release: what was read comes out again."""

import dataclasses
import json

import numpy as np
import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.weights.convert import ConvertSpec, convert
from mre_jax.weights.files.source import PickledFile
from mre_jax.weights.load import load_model
from mre_jax.weights.opening import model_at
from mre_jax.weights.save import save_model
from mre_jax.weights.smartedit_release import NAMES
from tests.tiny_smartedit import tiny_smartedit

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tests.weights import tiny, tiny_release  # noqa: E402
from tests.weights.alive import Alive  # noqa: E402


@pytest.fixture(scope="module")
def folder(release, pipeline_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("converted") / "smartedit"
    tiny.convert(release, target, base=pipeline_folder)
    return target


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_release_comes_out_as_it_went_in(release, folder, tmp_path, in_memory):
    if in_memory:
        save_model(load_model(folder), tmp_path / "out", format="smartedit")
    else:
        report = tiny.convert(folder, tmp_path / "out", format="smartedit")
        assert "vae, text_encoder, vision left out, which the official" in report.notes[-1]
        assert {*NAMES.values(), "tokenizer.model"} < set(report.files)
    for name in NAMES.values():
        theirs = torch.load(release / name, weights_only=True)
        ours = torch.load(tmp_path / "out" / name, weights_only=True)
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert ours[key].dtype == tensor.dtype and torch.equal(ours[key], tensor), key
    for place in ("", "LLM-15000/"):
        config = json.loads((tmp_path / "out" / f"{place}adapter_config.json").read_text())
        assert config.items() >= tiny_release.ADAPTERS.items()
    assert (tmp_path / "out/tokenizer.model").read_bytes() == (
        release / "tokenizer.model"
    ).read_bytes()


def test_it_is_read_as_the_same_model(release, folder, pipeline_folder, tmp_path):
    tiny.convert(folder, tmp_path / "out", format="smartedit")
    (tmp_path / "out/clip").symlink_to(release / "clip-vit-large-patch14")
    with model_at(tmp_path / "out", base=pipeline_folder) as again, model_at(folder) as before:
        assert again.kind == "smartedit"
        for name, part in before.components.items():
            source = again.components[name].source
            assert source.tensors == part.source.tensors
            assert all(
                source.read(n).tobytes() == part.source.read(n).tobytes() for n in source.tensors
            )


def test_frequencies_of_full_size_are_pytorchs():
    """Both sizes have heads of 128; a release's frequencies are left out, and made again.

    The last bit of PyTorch's own depends on the processor's vectors: 9 of 64 differ with AVX-512.
    """
    from mre_jax.models.llama_config import LlamaConfig
    from mre_jax.weights.smartedit_release import _frequencies

    made = next(iter(_frequencies(LlamaConfig.llama_7b()).values()))
    theirs = 1.0 / (10000 ** (torch.arange(0, 128, 2).float() / 128))
    np.testing.assert_array_max_ulp(made, theirs.numpy(), maxulp=2)


def test_tensors_stand_at_multiples_of_64_bytes(folder, tmp_path):
    """So that torch.load(mmap=True), as the official files of many GB want, can map them."""
    tiny.convert(folder, tmp_path / "out", format="smartedit")
    path = tmp_path / "out" / NAMES["modulate"]
    members = PickledFile(path)._checkpoint._members
    starts = [member.start for name, member in members.items() if "/data/" in name]
    assert len(starts) == 89 and not any(start % 64 for start in starts)
    mapped = torch.load(path, weights_only=True, mmap=True)
    read = torch.load(path, weights_only=True)
    assert all(torch.equal(mapped[name], tensor) for name, tensor in read.items())


def test_what_the_files_cannot_say_is_refused(folder, pipeline_folder, tmp_path):
    with pytest.raises(ConfigError, match="has a reward condition, which the official"):
        convert(ConvertSpec(tiny_smartedit(True), tmp_path / "out", format="smartedit"))
    with pytest.raises(ConfigError, match="is no SmartEdit: it has no llm, projector, qformer"):
        convert(ConvertSpec(pipeline_folder, tmp_path / "out", format="smartedit"))
    # The official heads of the QFormer are 64 wide, and these are 8.
    with pytest.raises(ConfigError, match=r"qformer: num_attention_heads is 4, .* to be 1"):
        convert(ConvertSpec(tiny_smartedit(), tmp_path / "out", format="smartedit"))
    with pytest.raises(ConfigError, match="--verify needs a local folder in the format diffusers"):
        convert(ConvertSpec(folder, tmp_path / "out", format="smartedit", verify=True))
    assert not list(tmp_path.iterdir())


def test_a_fault_on_the_way_leaves_nothing(folder, tmp_path):
    model = load_model(folder)
    bias = model.instruction_encoder.bim.modulate_head.bias
    bias[...] = bias[...] * np.float32("nan")
    with pytest.raises(DataError, match=r"1 not finite: modulate_head\.bias"):
        save_model(model, tmp_path / "out", format="smartedit")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["diffusers", "smartedit"])
def test_one_tensor_is_held_while_it_is_written(folder, tmp_path, format):
    with model_at(folder) as model:
        counted = {name: Alive(part.source) for name, part in model.components.items()}
        parts = {
            name: dataclasses.replace(part, source=counted[name])
            for name, part in model.components.items()
        }
        save_model(dataclasses.replace(model, components=parts), tmp_path / "out", format=format)
    written = {name: source for name, source in counted.items() if source.reads}
    assert {"llm", "qformer", "bim", "unet"} <= set(written)
    for source in written.values():
        assert source.most == 1 and sorted(source.reads) == sorted(source.tensors)


def _llava(folder, rows, **changes):
    """A LLaVA whose rows are those of a release but for half a rounding, in float16 shards."""
    folder.mkdir()
    tensors = {name: torch.from_numpy(table).to(torch.float16) for name, table in rows.items()}
    tensors |= changes
    placed = {}
    for number, (name, tensor) in enumerate(tensors.items(), 1):
        shard = f"pytorch_model-{number:05}-of-{len(tensors):05}.bin"
        torch.save({name: tensor}, folder / shard)
        placed[name] = shard
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": placed}))
    return folder


@pytest.fixture(scope="module")
def tables(folder):
    with model_at(folder) as model:
        source = model.components["llm"].source
        return {name: source.read(name) for name in ("model.embed_tokens.weight", "lm_head.weight")}


def test_llavas_rows_are_taken_for_llamas_words(folder, tables, tmp_path):
    words = tiny_release.VOCABULARY - 35
    # LLaVA-v1.1 has three tokens of its own behind them, which are not taken.
    llava = _llava(
        tmp_path / "llava", {n: table[: words + 3] * 1.01 for n, table in tables.items()}
    )
    report = tiny.convert(folder, tmp_path / "out", llava=llava)
    assert f"the {words} rows of LLaMA's words in model.embed_tokens" in report.notes[-1]
    with model_at(tmp_path / "out") as model, model_at(folder) as before:
        source, other = model.components["llm"].source, before.components["llm"].source
        for name in source.tensors:
            array, old = source.read(name), other.read(name)
            if name in tables:
                taken = (tables[name][:words] * 1.01).astype(np.float16).astype(np.float32)
                np.testing.assert_array_equal(array[:words], taken)
                array, old = array[words:], old[words:]
            np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("wide", r"llava: model.embed_tokens.weight is \[\d+, 64\], and \d+ rows of 32 are wanted"),
        ("short", r"llava: model.embed_tokens.weight is \[9, 32\]"),
        ("delta", "lm_head.weight is not what this model was trained from; give LLaVA-v1.1"),
        ("lacking", "llava lacks lm_head.weight; give LLaVA-v1.1"),
        ("empty", "llava holds no weights"),
    ],
)
def test_another_llava_is_refused(folder, tables, tmp_path, change, message):
    head, table = "lm_head.weight", "model.embed_tokens.weight"
    rows = dict(tables)
    if change == "wide":
        rows[table] = np.concatenate([rows[table]] * 2, axis=1)
    elif change == "short":
        rows[table] = rows[table][:9]
    elif change == "delta":
        rows[head] = rows[head] * 0.01
    elif change == "lacking":
        del rows[head]
    llava = _llava(tmp_path / "llava", {} if change == "empty" else rows)
    if change == "empty":
        (llava / "pytorch_model.bin.index.json").unlink()
    with pytest.raises(DataError, match=message):
        tiny.convert(folder, tmp_path / "out", llava=llava)
    assert not (tmp_path / "out").exists()


def test_an_instructpix2pix_has_no_use_for_llava(pipeline_folder, tmp_path):
    spec = ConvertSpec(pipeline_folder, tmp_path / "out", llava=tmp_path)
    with pytest.raises(ConfigError, match="is no SmartEdit; leave --llava out"):
        convert(dataclasses.replace(spec))
