"""Batches are the same however they are read, and a damaged example stops the run by name."""

import dataclasses
import functools
import io
import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from PIL import Image

from mre_jax.data.batches.augment import Augmentation, augment
from mre_jax.data.batches.device import prefetch, to_float, to_global
from mre_jax.data.batches.loader import Loader, Reading
from mre_jax.data.batches.synthetic import SyntheticLoader
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.records.tfrecord import RecordError, write_records
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.text import reward_parts, reward_text
from tests.data.pictures import picture
from tests.data.shards import write_set

COUNT, SIDE = 25, 16


def noise(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def triplets(count: int = COUNT) -> list[Triplet]:
    """Every fifth has no reward; the others have scores 0 .. 5 in turn."""
    return [
        Triplet(
            id=f"e{n}",
            original=noise(n),
            edited=noise(n),
            instruction=f"edit {n}",
            scores=None if n % 5 == 0 else (5, n % 6, 5),
            texts=None if n % 5 == 0 else ("", f"text {n}", ""),
        )
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"), triplets())


@pytest.fixture(scope="module")
def source(folder):
    return RecordSource(folder)


def make(source, **changes):
    settings = {"batch_size": 8, "seed": 3, "augmentation": Augmentation(SIDE, resize_to=20)}
    return Loader([source], **settings | changes)


def arrays(batch):
    """The fields of a batch and of what is cached, without those that are None."""
    fields = batch._asdict() | (batch.cached._asdict() if batch.cached else {}) | {"cached": None}
    return {name: value for name, value in fields.items() if value is not None}


def same(got, want):
    assert type(got) is type(want)
    got, want = arrays(got), arrays(want)
    assert list(got) == list(want)
    for name in want:
        a, b = got[name], want[name]
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert type(a) is type(b)
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)


def tokenize(texts):
    return np.array([[len(text), *text.encode()[:3].ljust(3)] for text in texts], np.int32)


def test_every_example_is_read_once_an_epoch_as_it_is_in_the_set(source):
    batches = list(make(source, batch_size=5).batches(0, 5))
    read = sorted(itertools.chain(*(batch.instruction for batch in batches)))
    assert read == sorted(triplet.instruction for triplet in triplets())
    by_instruction = {triplet.instruction: triplet for triplet in triplets()}
    for batch in batches:
        for slot, name in enumerate(batch.instruction):
            triplet = by_instruction[name]
            assert batch.present[slot] == (triplet.scores is not None)
            assert tuple(batch.scores[slot]) == (triplet.scores or (0, 0, 0))
            want = reward_text(triplet.texts, triplet.scores) if triplet.texts else ""
            assert batch.reward_text[slot] == want


def test_both_pictures_of_an_example_are_cut_and_mirrored_alike(source):
    # Original and edited picture of the set are equal here.
    flips = []
    for batch in make(source).batches(0, 10):
        np.testing.assert_array_equal(batch.original, batch.edited)
        flips.extend(batch.flip)
    assert 20 < sum(flips) < 60


def test_without_a_crop_the_pixels_are_those_of_the_picture(source):
    batch = make(source, augmentation=Augmentation(SIDE)).batch(0)
    for slot, name in enumerate(batch.instruction):
        image = triplets()[int(name.split()[1])].original_image()
        want = augment(image, Augmentation(SIDE), top=0, left=0, mirror=bool(batch.flip[slot]))
        np.testing.assert_array_equal(batch.original[slot], want)


@pytest.mark.parametrize("hosts", [1, 2, 4, 8, 32])
def test_the_global_batch_does_not_depend_on_the_number_of_hosts(source, hosts):
    want = make(source, batch_size=32).batch(2)
    parts = [make(source, batch_size=32, host=host, hosts=hosts).batch(2) for host in range(hosts)]
    parts = [arrays(part) for part in parts]
    for name, whole in arrays(want).items():
        np.testing.assert_array_equal(
            np.concatenate([part[name] for part in parts]), whole, err_msg=name
        )


def test_a_run_resumed_at_any_step_goes_on_as_if_it_had_never_stopped(source):
    loader = make(source)
    whole = list(loader.batches(0, 8))
    for start in range(8):
        for got, want in zip(loader.batches(start, 8), whole[start:], strict=True):
            same(got, want)
    same(next(loader.batches(7)), loader.batch(7))


def test_the_far_future_is_reached_at_once(source):
    batch = make(source).batch(10**9)
    assert batch.positions[0] == 8 * 10**9
    same(next(make(source).batches(10**9)), batch)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(source, threads):
    loader = make(source, reading=Reading(threads=threads, ahead=2), tokenize=tokenize)
    for step, batch in enumerate(loader.batches(0, 6)):
        same(batch, make(source, tokenize=tokenize).batch(step))


def test_worker_processes_change_nothing_and_name_what_is_damaged(tmp_path):
    source = RecordSource(write_set(tmp_path, triplets(), shards=1))
    # A local function as tokenizer: it has no need to travel.
    loader = make(
        source, reading=Reading(threads=1, workers=2, ahead=1), tokenize=lambda t: tokenize(t)
    )
    # All at once: the memory of a batch must stay its own when later ones arrive.
    for step, batch in enumerate(list(loader.batches(4, 10))):
        same(batch, make(source, tokenize=tokenize).batch(4 + step))
    damage(source, 20)
    with pytest.raises(DataError, match="record 20 at byte"):
        list(loader.batches(0, 4))


def test_a_loop_may_be_left_at_any_time(source):
    for _ in make(source).batches():
        break


def test_a_damaged_record_stops_the_run_by_name(tmp_path):
    source = RecordSource(write_set(tmp_path, triplets(), shards=1))
    offset = damage(source, 17)
    with pytest.raises(RecordError, match="checksum of its content") as error:
        list(make(source).batches(0, 4))
    assert (error.value.record, error.value.offset) == (17, offset)
    assert error.value.shard.endswith("toy-train.tfrecord-00000-of-00001")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edited": b"no picture"}, "edited picture: not a picture in PNG, JPEG"),
        ({"original": noise(0)[:300]}, "original picture: damaged picture"),
        ({"edited": picture(size=(3, 5))}, "differ in size, 24x20 and 3x5"),
    ],
)
def test_a_bad_picture_stops_the_run_by_name(tmp_path, changes, message):
    broken = triplets(4)
    broken[2] = dataclasses.replace(broken[2], **changes)
    source = RecordSource(write_set(tmp_path, broken, shards=1))
    with pytest.raises(DataError, match=rf"00001: record 2 at byte \d+: ?.*{message}"):
        list(make(source, batch_size=4).batches(0, 1))


def test_a_set_that_is_not_its_manifest_is_refused_before_the_first_step(tmp_path):
    write_set(tmp_path, triplets(9))
    last = tmp_path / "toy-train.tfrecord-00002-of-00003"
    whole = last.read_bytes()
    last.unlink()
    with pytest.raises(DataError, match="00002-of-00003: missing, with 3 records"):
        RecordSource(tmp_path)
    last.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"bytes, .* in the manifest"):
        RecordSource(tmp_path)
    last.write_bytes(whole)
    assert len(RecordSource(tmp_path)) == 9
    manifest = tmp_path / "manifest.json"
    content = manifest.read_text()
    manifest.unlink()
    with pytest.raises(DataError, match=r"no manifest\.json"):
        RecordSource(tmp_path)
    manifest.write_text(content)
    # As many bytes, but one record fewer.
    file = io.BytesIO()
    write_records(file, [b"x" * (len(whole) - 16)])
    last.write_bytes(file.getvalue())
    with pytest.raises(DataError, match="1 records, 3 in the manifest"):
        RecordSource(tmp_path)


def test_a_filter_leaves_what_is_good_enough(source):
    best = source.with_min_score(4)
    want = [t.instruction for t in triplets() if t.scores and min(t.scores) >= 4]
    assert sorted(best[n].instruction for n in range(len(best))) == sorted(want)
    batch = make(best, batch_size=len(want)).batch(0)
    assert sorted(batch.instruction) == sorted(want)
    with pytest.raises(ConfigError, match="min_score=0 must be over 0"):
        source.with_min_score(0)


def test_a_filter_that_leaves_nothing_is_refused(tmp_path):
    source = RecordSource(write_set(tmp_path, triplets(3)))
    with pytest.raises(DataError, match=r"none of 3 records has three scores of 4\.5 or more"):
        source.with_min_score(4.5)


def test_a_filter_of_what_has_no_scores_is_refused(tmp_path):
    bare = [dataclasses.replace(t, scores=None, texts=None) for t in triplets(3)]
    source = RecordSource(write_set(tmp_path, bare))
    with pytest.raises(DataError, match=r"no rewards in it, and data\.min_score asks for them"):
        source.with_min_score(4)


def test_a_mixture_reads_from_both_sets(source, tmp_path):
    other = RecordSource(write_set(tmp_path, [triplets(41)[40]], shards=1))
    loader = Loader([source, other], 10, 0, (0.9, 0.1), Augmentation(SIDE))
    names = [name for batch in loader.batches(0, 10) for name in batch.instruction]
    assert names.count("edit 40") == 10


def test_reward_texts_can_be_joined_otherwise(source):
    parts_of = functools.partial(reward_parts, perspectives=("preserving",))
    batch = make(source, parts_of=parts_of).batch(0)
    assert all("; " not in text for text in batch.reward_text)
    assert any(text.startswith("text ") for text in batch.reward_text)


def test_reward_texts_may_be_tokenized_in_their_parts(source):
    seen = []

    def tokenize_rewards(rewards):
        seen.extend(rewards)
        return tokenize(["; ".join(parts) for parts in rewards])

    apart = make(source, tokenize=tokenize, tokenize_rewards=tokenize_rewards)
    for step, batch in enumerate(apart.batches(0, 4)):
        same(batch, make(source, tokenize=tokenize).batch(step))
    assert {len(parts) for parts in seen} == {0, 3}


def test_each_device_gets_its_slice_of_the_batch(source):
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "fsdp"))
    loader = make(source, tokenize=tokenize)
    batches = list(prefetch(loader.batches(0, 3), mesh))
    assert len(batches) == 3
    for step, batch in enumerate(batches):
        want = loader.batch(step)
        assert {shard.data.shape[0] for shard in batch.original.addressable_shards} == {1}
        for name, a in arrays(batch).items():
            np.testing.assert_array_equal(np.asarray(a), arrays(want)[name], err_msg=name)
    pixels = np.asarray(to_float(batch.original))
    assert pixels.dtype == np.float32 and pixels.min() >= -1 and pixels.max() <= 1
    assert jax.random.wrap_key_data(batch.key_data).shape == (8,)
    data_only = to_global(want, mesh, ("data",))
    assert {shard.data.shape[0] for shard in data_only.scores.addressable_shards} == {2}


def test_what_cannot_go_to_the_devices_is_refused(source):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    with pytest.raises(ConfigError, match="give the loader a tokenizer"):
        to_global(make(source).batch(0), mesh)
    with pytest.raises(ConfigError, match="a batch of 4 does not divide among 8 devices"):
        to_global(make(source, batch_size=4, tokenize=tokenize).batch(0), mesh)


def test_synthetic_batches_have_the_form_of_real_ones(source):
    real = make(source, tokenize=tokenize, augmentation=Augmentation(SIDE)).batch(5)
    loader = SyntheticLoader(8, seed=3, resolution=SIDE, tokens=4)
    made = loader.batch(5)
    assert list(arrays(made)) == list(arrays(real))
    for name, a in arrays(made).items():
        assert (a.shape, a.dtype) == (arrays(real)[name].shape, arrays(real)[name].dtype), name
    np.testing.assert_array_equal(made.drop_text, real.drop_text)
    np.testing.assert_array_equal(made.key_data, real.key_data)
    assert [b.positions[0] for b in loader.batches(2, 4)] == [16, 24]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 6, "hosts": 4}, "batch_size=6 must be a multiple"),
        ({"dropout": 0.5}, "dropout 0.5"),
        ({"seed": -1}, "seed=-1"),
        ({"weights": (1.0, 2.0)}, "one above 0 for each"),
    ],
)
def test_settings_out_of_range_are_refused(source, change, message):
    with pytest.raises(ConfigError, match=message):
        make(source, **change)
    with pytest.raises(ConfigError, match="want threads >= 1"):
        Reading(threads=0)


def test_tensorflow_is_not_imported():
    code = (
        "import sys, grain;"
        "from mre_jax.data.batches import device, loader, synthetic;"
        "assert not {'tensorflow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def damage(source: RecordSource, record: int) -> int:
    """Flips a bit in the middle of a record of a set of one shard; returns the record's offset."""
    path = source.path / source.manifest.shards[0].file
    _, _, offset, length = source._places[record].tolist()
    data = bytearray(path.read_bytes())
    data[offset + length // 2] ^= 1
    path.write_bytes(data)
    return offset
