"""Cached latents and texts are those that training would have computed, or they are refused."""

import dataclasses
import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

torch = pytest.importorskip("torch")
tfds = pytest.importorskip("tensorflow_datasets")

from safetensors.numpy import load_file, save_file  # noqa: E402

from mre_jax import cli  # noqa: E402
from mre_jax.data.batches.augment import Augmentation  # noqa: E402
from mre_jax.data.batches.device import prefetch, to_float  # noqa: E402
from mre_jax.data.batches.loader import Loader, Reading  # noqa: E402
from mre_jax.data.batches.synthetic import SyntheticCache, SyntheticLoader  # noqa: E402
from mre_jax.data.cache.description import DTYPES, LATENTS, EncoderHashes, check_cache  # noqa: E402
from mre_jax.data.cache.encoders import tokenize_quietly  # noqa: E402
from mre_jax.data.cache.features import Rounding, feature_name, pack  # noqa: E402
from mre_jax.data.cache.maker import CacheMaker, CacheOptions  # noqa: E402
from mre_jax.data.prepare import PreparedSource  # noqa: E402
from mre_jax.data.records.example import decode_triplet, encode_triplet  # noqa: E402
from mre_jax.data.records.index import load_index, write_index  # noqa: E402
from mre_jax.data.records.manifest import check_manifest, write_manifest  # noqa: E402
from mre_jax.data.records.record_source import RecordSource  # noqa: E402
from mre_jax.data.records.shards import write_shard  # noqa: E402
from mre_jax.data.records.tfrecord import read_records  # noqa: E402
from mre_jax.data.records.writer import write_set  # noqa: E402
from mre_jax.data.sources.selection import Check  # noqa: E402
from mre_jax.errors import ConfigError, DataError  # noqa: E402
from mre_jax.io import files  # noqa: E402
from mre_jax.weights.load import load_model, load_text_encoder  # noqa: E402
from mre_jax.weights.tokens import Tokenizer  # noqa: E402
from tests.data.batches.test_loader import arrays, same  # noqa: E402
from tests.data.cached import SIDE, cache_arguments, cache_toy, encoder_hashes  # noqa: E402
from tests.data.prepared import (  # noqa: E402
    EXAMPLES,
    arguments,
    content,
    prepare_toy,
    write_toy,
)
from tests.tiny_editor import make_tiny_editor  # noqa: E402
from tests.weights.tiny import convert  # noqa: E402

BATCH = 8


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def shards(toy, tmp_path_factory):
    return prepare_toy(toy, tmp_path_factory.mktemp("prepared") / "out")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_tiny_editor(folder)
    return folder


@pytest.fixture(scope="module")
def cached(shards, model, tmp_path_factory):
    """Latents and texts, in float16, by all eight devices."""
    return cache_toy(shards, model, tmp_path_factory.mktemp("cached") / "out", "--text")


@pytest.fixture(scope="module")
def latents(shards, model, tmp_path_factory):
    """Latents only, in bfloat16, without the pictures."""
    out = tmp_path_factory.mktemp("latents") / "out"
    return cache_toy(shards, model, out, "--dtype", "bfloat16", "--drop-pictures")


def loader(*folders, **changes):
    settings = {"batch_size": BATCH, "seed": 3, "augmentation": Augmentation(SIDE)}
    return Loader([RecordSource(folder) for folder in folders], **settings | changes)


def message(capsys, argv):
    """Exit code and the one line of a command that fails."""
    code = cli.main([str(arg) for arg in argv])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mre ")]
    assert len(lines) == 1
    return code, lines[0]


UNCHECKED = Check(decode=False, instruction=False)


def rewritten(folder, out, change, settings=None):
    """A copy of a set whose every record went through `change(triplet, features)`."""
    out.mkdir()
    manifest = check_manifest(folder)
    entries = []
    for shard in manifest.shards:
        pairs = (change(*decode_triplet(record)) for record in read_records(folder / shard.file))
        entries.append(write_shard(out / shard.file, (encode_triplet(*pair) for pair in pairs)))
    for path in folder.glob("*.json"):
        shutil.copy(path, out)
    made = dataclasses.replace(
        manifest, shards=tuple(entries), settings=settings or manifest.settings
    )
    write_manifest(out, made)
    write_index(out, made, load_index(folder, manifest))
    return out


def test_cached_batches_are_what_the_encoders_say_of_the_uncached_ones(cached, model):
    found = load_model(model)
    tokenizer = Tokenizer.from_files(found.files, found.text_encoder.config)
    allowed = {
        name: error["max"] + 2e-6
        for name, error in check_manifest(cached).measured["rounding"].items()
    }
    by_cache, by_pictures = (
        loader(cached, cache=mode).batches(0, 4) for mode in ("required", "never")
    )
    flips = []
    for batch, want in zip(by_cache, by_pictures, strict=True):
        assert (batch.original, batch.edited) == (None, None)
        assert (batch.instruction, batch.reward_text) == (None, None)
        original = found.vae.encode(to_float(jnp.asarray(want.original)))
        edited = found.vae.encode(to_float(jnp.asarray(want.edited)))
        instruction, reward = (
            found.text_encoder(jnp.asarray(tokenize_quietly(tokenizer, texts)[0]))
            for texts in (want.instruction, want.reward_text)
        )
        exact = {
            "original": original.mode(),
            "edited_mean": edited.mean,
            "edited_logvar": edited.logvar,
            "instruction_states": instruction.last_hidden_state,
            "reward_states": reward.last_hidden_state,
            "reward_pooled": reward.pooler_output,
        }
        kept = {name: x for name, x in batch.cached._asdict().items() if x is not None}
        assert list(exact) == list(kept)
        for name, array in kept.items():
            assert array.dtype == np.float16
            assert array.shape == exact[name].shape
            error = np.abs(array.astype(np.float32) - np.asarray(exact[name])).max()
            assert error <= allowed[name], name
        for name in ("scores", "present", "drop_text", "drop_image", "flip", "key_data"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(want, name))
        np.testing.assert_array_equal(batch.positions, want.positions)
        flips += batch.flip.tolist()
    assert 0 < sum(flips) < len(flips)


def test_the_stated_error_is_the_largest_and_the_mean_of_all(cached, latents):
    half, brain = (check_manifest(folder).measured["rounding"] for folder in (cached, latents))
    assert list(half) == list(RecordSource(cached).cache.shapes)
    assert list(brain) == list(LATENTS)
    for name in LATENTS:
        assert 0 < half[name]["mean"] < half[name]["max"] < 1e-3
        assert 4 < brain[name]["max"] / half[name]["max"] < 16  # 8 bits of mantissa for 11
    rounding, parts = Rounding(), Rounding()
    exact = np.float32([1, 1 + 2**-12, 2])
    rounding.add("original", exact, exact.astype(np.float16))
    parts.add_parts(rounding.parts)
    parts.add_parts(rounding.parts)
    assert parts.summary() == {"original": {"max": 2.441e-4, "mean": 8.138e-5}}  # of 2^-12


def test_neither_devices_nor_batches_change_a_byte(shards, model, cached, tmp_path):
    source = PreparedSource(shards)
    settings = check_manifest(cached).settings
    for number, (size, devices) in enumerate([(5, jax.devices()[:1]), (2, jax.devices()[:3])]):
        options = CacheOptions(resolution=SIDE, text=True, batch_size=size)
        maker = CacheMaker(model, options, devices)
        out = tmp_path / str(number)
        write_set(source, source.plan(), out, settings, check=UNCHECKED, extender=maker)
        assert content(out) == content(cached)


def test_parts_have_the_same_records_as_the_whole(shards, model, cached, tmp_path):
    """Together they train as one set; each goes by the place of its examples in the set."""
    whole, rows = RecordSource(cached), []
    for number in range(2):
        part = tmp_path / f"part-{number}"
        cache_toy(shards, model, part, "--text", "--shard", f"{number}/2")
        source = RecordSource(part)
        assert source.cache == whole.cache
        rows += [source[position] for position in range(len(source))]
    assert rows == [whole[position] for position in range(len(whole))]
    folders = [tmp_path / f"part-{number}" for number in range(2)]
    assert len(loader(*folders).batch(0).positions) == BATCH


def test_prepare_makes_the_same_cache_at_once(toy, model, cached, tmp_path, capsys):
    options = ("--cache", str(model), "--resolution", str(SIDE), "--text", "--batch-size", "1")
    out = prepare_toy(toy, tmp_path / "out", *options)
    assert "reward_text: " in capsys.readouterr().out
    assert check_manifest(out).shards == check_manifest(cached).shards
    assert check_manifest(out).measured == check_manifest(cached).measured
    argv = [*arguments(toy, tmp_path / "x", *options), "--workers", "2"]
    code, line = message(capsys, argv)
    assert (code, "--cache works in one process" in line) == (78, True)


def test_bad_rows_are_left_out_before_they_are_cached(toy, model, tmp_path, capsys):
    broken = shutil.copytree(toy, tmp_path / "toy")
    (edited,) = (broken / "triplets" / "0000003").glob("*_1.png")
    edited.write_bytes(b"GIF")
    options = ("--cache", str(model), "--resolution", str(SIDE), "--skip-bad", "1")
    out = prepare_toy(broken, tmp_path / "out", *options)
    source = RecordSource(out)
    assert len(source) == EXAMPLES - 1
    assert source.cache is not None
    assert "0000003" in source.manifest.measured["skipped"][0]["reason"]


@pytest.mark.filterwarnings("default:.*merged")
def test_texts_are_those_of_a_text_encoder_with_its_lora(shards, model, tmp_path, capsys):
    lora, width = tmp_path / "style.safetensors", load_text_encoder(model).config.hidden_size
    change = {"lora_te_text_model_final_layer_norm.b_norm": np.ones(width, np.float32)}
    save_file(change, lora)
    out = cache_toy(shards, model, tmp_path / "out", "--text", "--lora", str(lora))
    assert "merged" in capsys.readouterr().err
    convert(model, tmp_path / "merged", lora=lora)
    hashes = encoder_hashes(tmp_path / "merged")
    cache = RecordSource(out).cache
    assert cache.text.text_encoder == hashes.text_encoder != encoder_hashes(model).text_encoder
    assert cache.vae == hashes.vae
    argv = cache_arguments(shards, model, tmp_path / "latents", "--lora", str(lora))
    code, line = message(capsys, argv)
    assert (code, "cache the texts too (--text)" in line) == (78, True)


class Stop(BaseException):
    """What a kill looks like from inside."""


def test_stopped_between_writes_and_started_again_it_gives_the_same_bytes(
    shards, model, cached, tmp_path, monkeypatch
):
    source, settings = PreparedSource(shards), check_manifest(cached).settings
    options = CacheOptions(resolution=SIDE, text=True, batch_size=1)
    maker = CacheMaker(model, options, jax.devices()[:1])
    sync = files._sync
    for stops in (2, 3, 6, 8):  # of the claim, shards and their notes, metadata, manifest
        calls, out = 0, tmp_path / str(stops)

        def stop(file, at=stops):
            nonlocal calls
            calls += 1
            if calls > at:
                raise Stop
            sync(file)

        with monkeypatch.context() as patch:
            patch.setattr(files, "_sync", stop)
            with pytest.raises(Stop):
                write_set(source, source.plan(), out, settings, check=UNCHECKED, extender=maker)
        write_set(source, source.plan(), out, settings, check=UNCHECKED, extender=maker)
        assert content(out) == content(cached), stops


@pytest.mark.slow
def test_killed_within_a_shard_and_started_again_it_gives_the_same_bytes(
    shards, model, cached, tmp_path
):
    """Killed at the third example of the first shard, and at the fourth of the second."""
    slowly = (
        "import sys, time; from mre_jax import cli; from mre_jax.data.cache import maker\n"
        "pack = maker.pack\n"
        "def slow(*args):\n"
        "    print('packing', flush=True)\n"
        "    time.sleep(0.05)\n"
        "    return pack(*args)\n"
        "maker.pack = slow\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    out = tmp_path / "out"
    argv = [sys.executable, "-c", slowly, *cache_arguments(shards, model, out, "--text")]
    for number, examples in enumerate((3, 12)):
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            for _ in range(examples):
                assert process.stdout.readline() == b"packing\n"
            process.kill()
        assert len(list(out.glob(".progress/*.json"))) == number
        assert not (out / "manifest.json").exists()
    last = subprocess.run(argv, capture_output=True, check=True)
    assert last.stdout.count(b"packing") == 16  # the first shard is not made again
    assert content(out) == content(cached)


def test_only_the_half_of_the_vae_that_encodes_identifies_it(model, cached, tmp_path):
    hashes, source = encoder_hashes(model), RecordSource(cached)
    check_cache([source], hashes)
    assert hashes.vae == source.cache.vae
    assert encoder_hashes(model, text=False) == EncoderHashes(hashes.vae)
    for half, equal in (("decoder", True), ("encoder", False)):
        other = shutil.copytree(model, tmp_path / half)
        (path,) = (other / "vae").glob("*.safetensors")
        tensors = load_file(path)
        tensors[f"{half}.conv_in.bias"] += 1
        save_file(tensors, path, metadata={"format": "pt"})
        assert (encoder_hashes(other).vae == hashes.vae) is equal


def test_a_cache_of_other_weights_or_texts_is_refused_by_name(model, cached, latents, tmp_path):
    make_tiny_editor(tmp_path, seed=1)
    hashes, other = encoder_hashes(model), encoder_hashes(tmp_path)
    full, plain = RecordSource(cached), RecordSource(latents)
    with pytest.raises(ConfigError) as error:
        check_cache([plain, full], other)
    for part in (hashes.vae[:12], other.vae[:12], str(latents), "another VAE", "mre data cache"):
        assert part in str(error.value)
    with pytest.raises(ConfigError, match=f"text encoder .{hashes.text_encoder[:12]}"):
        check_cache([full], hashes._replace(text_encoder=other.text_encoder))
    with pytest.raises(ConfigError, match="another tokenizer"):
        check_cache([full], hashes._replace(tokenizer="0" * 64))
    with pytest.raises(ConfigError, match="none_for_top=True, not False"):
        check_cache([full], hashes, none_for_top=False)
    with pytest.raises(ConfigError, match=r"data\.reward_cut=end, not share"):
        check_cache([full], hashes, reward_cut="share")
    with pytest.raises(ConfigError, match=r"perspectives=.*not .'quality',"):
        check_cache([full], hashes, perspectives=("quality",))
    check_cache([plain], EncoderHashes(hashes.vae), none_for_top=False)


def test_a_cache_that_does_not_fit_the_loader_is_refused(shards, cached, latents):
    for changes, words in (
        ({"augmentation": Augmentation(SIDE, resize_to=40)}, "random crop to 32"),
        ({"augmentation": Augmentation(SIDE, fit="crop")}, "data.fit=crop asks for a random crop"),
        ({"augmentation": Augmentation(24)}, "made with resolution=32, and data.resolution is 24"),
        (
            {"augmentation": Augmentation(SIDE, filter="bicubic")},
            "filter=lanczos, and data.filter is bicubic",
        ),
        ({"cache": "always"}, "one of auto, required, never"),
    ):
        with pytest.raises(ConfigError, match=words):
            loader(cached, **changes)
    with pytest.raises(ConfigError, match="no cache in it"):
        loader(shards, cache="required")
    with pytest.raises(ConfigError, match=f"{shards}: no cache in it"):
        loader(cached, shards)
    with pytest.raises(ConfigError, match=f"{latents}: its cache has another dtype than that of"):
        loader(cached, latents)
    with pytest.raises(ConfigError, match="its pictures were dropped"):
        loader(latents, cache="never")
    crop = loader(cached, augmentation=Augmentation(24, resize_to=SIDE), cache="never")
    assert crop.batch(0).original.shape == (BATCH, 24, 24, 3)
    assert loader(shards).reads_cache is None


def test_latents_alone_leave_the_texts(cached, latents):
    batch = loader(latents, tokenize=lambda texts: np.zeros((len(texts), 4), np.int32)).batch(2)
    assert batch.original is None and batch.cached.instruction_states is None
    assert batch.instruction.shape == batch.reward_text.shape == (BATCH, 4)
    half = loader(cached).batch(2)
    for name in LATENTS:
        got, want = getattr(batch.cached, name), getattr(half.cached, name)
        assert got.dtype == DTYPES["bfloat16"]
        np.testing.assert_allclose(got.astype(np.float32), want.astype(np.float32), 2**-7, 1e-3)


def test_dropped_pictures_leave_thumbnails_and_cannot_be_cached_again(
    latents, model, tmp_path, capsys
):
    assert {image.size for image in RecordSource(latents)[0].images()} == {(32, 32)}
    code, line = message(capsys, cache_arguments(latents, model, tmp_path / "out"))
    assert (code, "its pictures were dropped" in line) == (78, True)


def test_a_cached_set_can_be_cached_again_for_another_model(cached, shards, tmp_path):
    make_tiny_editor(tmp_path / "model", seed=1)
    again = cache_toy(cached, tmp_path / "model", tmp_path / "again")
    fresh = cache_toy(shards, tmp_path / "model", tmp_path / "fresh")
    assert check_manifest(again).shards == check_manifest(fresh).shards
    assert RecordSource(again).cache.vae == encoder_hashes(tmp_path / "model").vae


@pytest.mark.parametrize("name", [pytest.param("cached", marks=pytest.mark.slow), "latents"])
def test_worker_processes_and_restarts_change_nothing(name, request):
    made = loader(request.getfixturevalue(name), reading=Reading(threads=1, workers=2, ahead=1))
    for step, batch in enumerate(list(made.batches(3, 6))):
        same(batch, made.batch(3 + step))


def test_each_device_gets_its_slice_of_a_cached_batch(cached):
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "fsdp"))
    made = loader(cached)
    for step, batch in enumerate(prefetch(made.batches(0, 2), mesh)):
        want = arrays(made.batch(step))
        for name, array in arrays(batch).items():
            assert {shard.data.shape[0] for shard in array.addressable_shards} == {1}
            np.testing.assert_array_equal(np.asarray(array), want[name], err_msg=name)


@pytest.mark.parametrize(("name", "width"), [("cached", 32), ("latents", None)])
def test_synthetic_cached_batches_have_the_form_of_real_ones(name, width, request):
    made = loader(
        request.getfixturevalue(name),
        tokenize=lambda texts: np.zeros((len(texts), 77), np.int32),
    )
    form = SyntheticCache(dtype=made.reads_cache.dtype, text_width=width)
    real, fake = (
        arrays(one.batch(5))
        for one in (made, SyntheticLoader(BATCH, seed=3, resolution=SIDE, cache=form))
    )
    assert list(real) == list(fake)
    for name, array in real.items():
        assert (array.shape, array.dtype) == (fake[name].shape, fake[name].dtype), name


def test_verify_and_stats_know_the_cache(cached, tmp_path, capsys):
    assert cli.main(["data", "verify", str(cached)]) == 0
    assert cli.main(["data", "stats", str(cached), "--out", str(tmp_path / "stats")]) == 0
    shown = capsys.readouterr().out
    assert "latents 4x4x4 in float16 of 32 px (lanczos) by VAE " in shown
    assert "rounding of edited_mean: at most " in shown
    assert json.loads((tmp_path / "stats" / "stats.json").read_text())["rounding"]

    def damaged(triplet, features):
        name = feature_name("edited_mean")
        if triplet.id.endswith("3"):
            features[name] = [features[name][0][:-2]]
        elif triplet.id.endswith("4"):
            features[name] = [np.full(128, np.nan, np.float16).tobytes()]
        elif triplet.id.endswith("5"):
            del features[name]
        return triplet, features

    out = rewritten(cached, tmp_path / "damaged", damaged)
    assert cli.main(["data", "verify", str(out), "--json"]) == 65
    damages = json.loads(capsys.readouterr().out)["damages"]
    assert {damage["kind"] for damage in damages} == {"bad_features"}
    details = [damage["detail"] for damage in damages]
    for words, count in (
        ("has 254 bytes; want 256", 3),
        ("edited_mean is not finite", 2),
        ("no feature 'cached_edited_mean'", 2),
    ):
        assert sum(words in detail for detail in details) == count, words
    with pytest.raises(DataError, match=r"record \d+ at byte \d+: .*cached_edited_mean"):
        list(loader(out).batches(0, 3))


def test_values_that_the_dtype_cannot_hold_are_refused(cached):
    cache = RecordSource(cached).cache
    values = {name: np.zeros(shape, np.float32) for name, shape in cache.shapes.items()}
    for bad, words in (
        (1e6, "too large for float16; take --dtype bfloat16"),
        (np.nan, "not finite: the encoder's weights are damaged"),
    ):
        values["original"][0, 1, 2, 3] = bad
        with pytest.raises(DataError, match=f"example 7: original is {words}"):
            pack(cache, values, "example 7", Rounding())
    wide = dataclasses.replace(cache, dtype="bfloat16")
    values["original"][0, 1, 2, 3] = 1e6
    assert len(pack(wide, values, "example 7", Rounding())["cached_original"][0]) == 256


def test_a_bad_picture_is_named(shards, model, tmp_path, capsys):
    def damaged(triplet, features):
        broken = triplet.id.endswith("13")
        return dataclasses.replace(triplet, **({"edited": b"no picture"} if broken else {})), None

    source = rewritten(shards, tmp_path / "in", damaged)
    code, line = message(capsys, cache_arguments(source, model, tmp_path / "out"))
    assert code == 65
    assert "record 5 at byte" in line and "edited picture: not a picture" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--resolution", "36"), "resolution 36 must be a multiple of the VAE's 8"),
        (("--batch-size", "0"), "batch size 0"),
        (("--text", "--perspectives", "beauty"), "perspectives ['beauty']"),
    ],
)
def test_options_out_of_range_are_one_line(shards, model, tmp_path, capsys, options, words):
    code, line = message(capsys, cache_arguments(shards, model, tmp_path / "out", *options))
    assert (code, words in line) == (78, True)


def test_other_settings_are_refused_by_name(shards, model, cached, capsys):
    code, line = message(capsys, cache_arguments(shards, model, cached))
    assert (code, "was begun with other settings: cache." in line) == (78, True)


def test_a_manifest_of_another_version_is_refused(cached, tmp_path):
    settings = dict(check_manifest(cached).settings)
    settings["cache"] = {**settings["cache"], "latents": "4x4x4"}
    out = rewritten(cached, tmp_path / "out", lambda *pair: pair, settings)
    with pytest.raises(DataError, match="the manifest's cache is not one of this version"):
        _ = RecordSource(out).cache


def test_the_set_keeps_its_examples_and_tells_tensorflow_datasets_of_the_cache(shards, cached):
    before, after = RecordSource(shards), RecordSource(cached)
    assert [before[n] for n in range(EXAMPLES)] == [after[n] for n in range(EXAMPLES)]
    features = tfds.builder_from_directory(str(cached)).info.features
    for name, shape in after.cache.shapes.items():
        assert features[feature_name(name)].shape == shape
        assert features[feature_name(name)].np_dtype == np.float16


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cached", "latents"])
def test_tensorflow_reads_the_cached_values(name, request):
    pytest.importorskip("tensorflow")
    folder = request.getfixturevalue(name)
    code = f"""
import json, numpy as np, tensorflow_datasets as tfds
builder = tfds.builder_from_directory({str(folder)!r})
read = tfds.ReadConfig(interleave_cycle_length=1)
row = next(iter(tfds.as_numpy(builder.as_dataset(split="train", read_config=read))))
print(json.dumps(np.asarray(row["cached_edited_mean"], np.float32).tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = np.float32(json.loads(done.stdout.splitlines()[-1]))
    source = RecordSource(folder)
    _, features = source.read(0)
    dtype = DTYPES[source.cache.dtype]
    want = np.frombuffer(features["cached_edited_mean"][0], dtype).astype(np.float32)
    np.testing.assert_array_equal(found.ravel(), want)


@pytest.mark.filterwarnings("default:.*taken from")
def test_what_the_model_lacks_comes_from_its_base(model, shards, tmp_path, capsys):
    """A VAE file of a model site, and the rest of the model it goes with."""
    vae = next((model / "vae").glob("*.safetensors"))
    assert encoder_hashes(vae, base=model) == encoder_hashes(model)
    cache_toy(shards, vae, tmp_path / "out", "--base", str(model))
    assert f"tokenizer taken from {model}" in capsys.readouterr().err
