"""What SmartEdit makes of picture and instruction, cached: as the editor has it, or refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sentencepiece")
pytest.importorskip("tensorflow_datasets")

from mre_jax import cli
from mre_jax.data.batches.augment import Augmentation
from mre_jax.data.batches.device import to_float
from mre_jax.data.batches.loader import Loader
from mre_jax.data.batches.synthetic import SyntheticCache, SyntheticLoader
from mre_jax.data.cache.description import LATENTS, CacheOptions, check_cache
from mre_jax.data.cache.encoders import hashes_of
from mre_jax.data.cache.maker import CacheMaker
from mre_jax.data.prepare import PreparedSource
from mre_jax.data.records.manifest import check_manifest
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.records.writer import write_set
from mre_jax.data.sources.selection import Check
from mre_jax.errors import ConfigError
from mre_jax.smartedit.instruction_encoder import InstructionEncoder
from mre_jax.weights.load import load_model
from mre_jax.weights.opening import model_at
from tests.data.batches.test_loader import arrays
from tests.data.cached import SIDE, cache_arguments, cache_toy
from tests.data.prepared import content, prepare_toy, write_toy
from tests.tiny_smartedit import TEMPLATES, make_tiny_smartedit, tiny_smartedit

BATCH = 6


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    return prepare_toy(write_toy(folder / "toy", BATCH), folder / "shards")


@pytest.fixture(scope="module")
def model():
    return tiny_smartedit()


@pytest.fixture(scope="module")
def cached(shards, model, tmp_path_factory):
    """In float16, by all eight devices."""
    return cache_toy(shards, model, tmp_path_factory.mktemp("cached") / "out", "--text")


@pytest.fixture(scope="module")
def hashes(model):
    with model_at(model) as opened:
        return hashes_of(opened)


def loader(*folders, flip=0.0, **changes):
    settings = {"batch_size": BATCH, "seed": 3, "augmentation": Augmentation(SIDE, flip=flip)}
    return Loader([RecordSource(folder) for folder in folders], **settings | changes)


def message(capsys, argv):
    """Exit code and the one line of a command that fails."""
    code = cli.main([str(arg) for arg in argv])
    (line,) = (row for row in capsys.readouterr().err.splitlines() if row.startswith("mre "))
    return code, line


def test_cached_features_are_what_the_editor_makes_of_picture_and_instruction(cached, model):
    found = load_model(model)
    encoder = InstructionEncoder(found.instruction_encoder, found.files)
    allowed = {
        name: error["max"] + 2e-6
        for name, error in check_manifest(cached).measured["rounding"].items()
    }
    made, source = loader(cached), RecordSource(cached)
    batch = made.batch(0)
    triplets = [source[number] for _, number in made.find(np.arange(BATCH))]
    pixels = np.stack([np.asarray(t.images()[0].resize((SIDE, SIDE))) for t in triplets])
    text, image = encoder(
        [triplet.images()[0] for triplet in triplets], [t.instruction for t in triplets]
    )
    exact = {
        "original": found.vae.encode(to_float(jnp.asarray(pixels))).mode(),
        "instruction_states": text,
        "image_features": image,
    }
    assert list(allowed) == list(source.cache.shapes)
    assert batch.cached.image_features.shape == (BATCH, 4, 4, 16)
    for name, values in exact.items():
        kept = getattr(batch.cached, name)
        assert kept.dtype == np.float16
        error = np.abs(kept.astype(np.float32) - np.asarray(values)).max()
        assert 0 < error <= allowed[name], name
    assert batch.cached.reward_states.shape == batch.cached.instruction_states.shape
    assert not batch.flip.any()


def test_nothing_is_mirrored(cached, shards, model, tmp_path):
    """Latents are kept once; a run that mirrors is told how to go on. Latents alone are as ever."""
    cache = RecordSource(cached).cache
    assert {cache.shapes[name][0] for name in LATENTS} == {1}
    with pytest.raises(ConfigError, match=r"mirror images, and data\.flip is 0\.5; set data\.flip"):
        loader(cached, flip=0.5)
    latents = RecordSource(cache_toy(shards, model, tmp_path / "latents")).cache
    assert (latents.smartedit, latents.shapes["original"][0]) == (None, 2)
    assert "smartedit" not in latents.settings()["cache"]


def test_neither_devices_nor_batches_change_a_byte(shards, model, cached, tmp_path):
    source, options = PreparedSource(shards), CacheOptions(resolution=SIDE, text=True, batch_size=4)
    maker = CacheMaker(model, options, jax.devices()[:1])
    settings, check = check_manifest(cached).settings, Check(decode=False, instruction=False)
    write_set(source, source.plan(), tmp_path / "out", settings, check=check, extender=maker)
    assert content(tmp_path / "out") == content(cached)


def test_a_language_model_in_parts_gives_the_same(shards, model, cached, tmp_path):
    """To rounding, which is of sums in another order and of the cache's dtype."""
    split = RecordSource(cache_toy(shards, model, tmp_path / "out", "--text", "--split-llm"))
    assert split.cache == RecordSource(cached).cache
    one, two = (loader(folder).batch(0).cached for folder in (cached, tmp_path / "out"))
    for name, kept in one._asdict().items():
        np.testing.assert_allclose(
            getattr(two, name).astype(np.float32), kept.astype(np.float32), 2e-3, 2e-3, err_msg=name
        )


def test_other_weights_tokens_or_templates_are_refused_by_name(cached, hashes):
    source = RecordSource(cached)
    check_cache([source], hashes)
    check_cache([source], hashes._replace(prompts=None))  # of a model without templates
    for change, words in (
        ({"smartedit": "0" * 64}, rf"another SmartEdit .{hashes.smartedit[:12]}. than this"),
        ({"smartedit": None}, "than this model's .none."),
        ({"prompts": "0" * 64}, f"another set of templates .{hashes.prompts[:12]}"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_cache([source], hashes._replace(**change))
    plain = dataclasses.replace(source.cache, smartedit=None)

    class Plain:
        path, cache = source.path, plain

    with pytest.raises(ConfigError, match=r"another SmartEdit .none. than this model's"):
        check_cache([Plain], hashes)


def test_the_hash_tells_weights_and_tokenizers_apart(model, hashes, tmp_path):
    other = make_tiny_smartedit(tmp_path / "other", seed=1)
    with model_at(other) as opened:
        found = hashes_of(opened)
        assert found.smartedit != hashes.smartedit
        assert found.prompts == hashes.prompts
    with model_at(model) as opened:
        files = {**opened.files, "llm_tokenizer/tokenizer.model": b"pieces"}
        del files["llm_tokenizer/templates.txt"]
        found = hashes_of(dataclasses.replace(opened, files=files))
        assert (found.smartedit == hashes.smartedit, found.prompts) == (False, None)


def test_sets_of_two_templates_do_not_mix(shards, model, cached, tmp_path, capsys):
    templates = tmp_path / "templates.txt"
    templates.write_text(TEMPLATES.replace("Please change", "Change"))
    options = ("--text", "--templates", str(templates))
    other = cache_toy(shards, model, tmp_path / "out", *options)
    one, two = (RecordSource(folder).cache.smartedit for folder in (cached, other))
    assert one == dataclasses.replace(two, prompts=one.prompts) != two
    with pytest.raises(ConfigError, match="its cache has another smartedit than that of"):
        loader(cached, other)
    capsys.readouterr()
    code, line = message(capsys, cache_arguments(shards, model, cached, *options))
    assert (code, "was begun with other settings: cache.smartedit.prompts" in line) == (78, True)
    code, line = message(capsys, cache_arguments(shards, model, tmp_path / "x", *options[1:]))
    assert (code, "leave --templates out, or cache the texts too (--text)" in line) == (78, True)


def test_synthetic_batches_have_the_form_of_cached_ones(cached):
    made = loader(cached)
    form = SyntheticCache(dtype="float16", text_width=32, image_features=(4, 16))
    real, fake = (
        arrays(one.batch(5))
        for one in (made, SyntheticLoader(BATCH, seed=3, resolution=SIDE, cache=form))
    )
    assert list(real) == list(fake)
    for name, array in real.items():
        assert (array.shape, array.dtype) == (fake[name].shape, fake[name].dtype), name


def test_a_set_says_what_it_holds_and_is_verified(cached, capsys):
    assert cli.main(["data", "verify", str(cached)]) == 0
    assert cli.main(["data", "stats", str(cached)]) == 0
    shown = capsys.readouterr().out
    assert "text states 77x32" in shown
    assert "image features 4x4x16 by SmartEdit " in shown
    assert "rounding of image_features: at most " in shown
