"""A set in a bucket is read where it is: the batches of a local one, and no byte of other hosts."""

import itertools
import json
import pickle

import numpy as np
import pytest

from mre_jax.data.batches.loader import Loader, Reading
from mre_jax.data.batches.order import positions
from mre_jax.data.records import record_source
from mre_jax.data.records.index import index_path
from mre_jax.data.records.lengths import lengths_path, load_lengths, write_lengths
from mre_jax.data.records.manifest import load_manifest
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.records.tfrecord import read_ends
from mre_jax.errors import DataError
from tests.data.batches.test_loader import arrays, same, triplets
from tests.data.shards import write_set
from tests.evaluation import buckets

URL, COUNT, FRAME = "gs://bucket/set", 48, 16


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A set that knows its lengths, and no place to copy it to."""
    monkeypatch.setenv("MRE_DATA_CACHE", "/dev/null/none")
    folder = write_set(tmp_path / "set", triplets(COUNT))
    local = RecordSource(folder)
    write_lengths(folder, local.manifest, local._places[:, 3].tolist())
    return folder


@pytest.fixture
def bucket(folder, monkeypatch):
    return buckets.serve(monkeypatch, "gs://bucket", folder.parent)


def make(source, host=0, hosts=1, batch_size=8):
    return Loader([source], batch_size, 3, host=host, hosts=hosts, reading=Reading(threads=2))


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_batches_of_any_number_of_hosts_are_bit_for_bit_those_of_the_set_itself(
    folder, bucket, hosts
):
    local, steps = make(RecordSource(folder)), 9  # more than an epoch
    loaders = [make(RecordSource(URL, requests=4), host, hosts) for host in range(hosts)]
    for step, parts in enumerate(zip(*(one.batches(0, steps) for one in loaders), strict=True)):
        want = arrays(local.batch(step))
        got = [arrays(part) for part in parts]
        for name, whole in want.items():
            found = np.concatenate([part[name] for part in got])
            np.testing.assert_array_equal(found, whole, err_msg=name)
            assert found.dtype == np.asarray(whole).dtype


def test_a_host_reads_its_own_records_each_by_one_request(folder, bucket):
    local, hosts = make(RecordSource(folder)), 4
    loader = make(RecordSource(URL, requests=4), host=2, hosts=hosts)
    assert bucket.parts == [], "records were asked for before there was a step"
    list(loader.batches(0, 6))
    own = itertools.chain(*(local.find(positions(step, 8, 2, hosts)) for step in range(6)))
    want = [int(source._places[record, 3]) + FRAME for source, record in own]
    assert sorted(bucket.parts) == sorted(want)


def test_requests_are_under_way_together_and_no_more_than_asked_for(folder, bucket):
    source = RecordSource(URL, requests=6)
    bucket.seconds = 0.05
    found = [triplet.id for triplet, _ in source.read_each(range(COUNT))]
    assert found == [triplet.id for triplet in RecordSource(folder)]
    assert 4 <= bucket.most <= 6


def test_a_bucket_without_fsspec_is_read_alike(folder, monkeypatch):
    buckets.mount(monkeypatch, "gs://bucket", folder.parent)
    same(make(RecordSource(URL, requests=4)).batch(2), make(RecordSource(folder)).batch(2))


def test_it_crosses_to_worker_processes_and_a_part_of_it_too(folder, bucket):
    source = RecordSource(URL, requests=4)
    _ = list(source.read_each([0]))  # its threads and readers stay here
    again = pickle.loads(pickle.dumps(source))  # noqa: S301
    vars(again)["_folder"] = folder  # the bucket of this test stays here too
    assert again.manifest == source.manifest and len(again) == COUNT
    part = source.with_min_score(3)
    assert [t.id for t, _ in part.read_each(range(4))] == [
        RecordSource(folder).with_min_score(3)[n].id for n in range(4)
    ]


def test_a_set_of_an_earlier_version_is_measured_once(folder, bucket, capsys):
    manifest = load_manifest(folder)
    want = [part.tolist() for part in load_lengths(folder, manifest)]
    path = lengths_path(folder, manifest)
    path.unlink()
    assert RecordSource(URL, requests=4)[5] is not None
    assert f"asking for all {COUNT} headers once" in capsys.readouterr().err
    assert bucket.parts.count(12) == COUNT
    assert [part.tolist() for part in load_lengths(folder, manifest)] == want
    RecordSource(URL, requests=4)
    assert "headers" not in capsys.readouterr().err
    assert bucket.parts.count(12) == COUNT


def test_a_set_that_may_only_be_read_is_read(folder, bucket, monkeypatch):
    lengths_path(folder, load_manifest(folder)).unlink()

    def refuse(*_):
        raise PermissionError("403")

    monkeypatch.setattr(record_source, "write_lengths", refuse)
    monkeypatch.setattr(record_source, "write_index", refuse)
    source = RecordSource(URL, requests=4)
    assert source.rewarded_count == RecordSource(folder).rewarded_count
    assert not index_path(folder, source.manifest).exists()


def test_what_is_damaged_in_the_bucket_is_named(folder, bucket):
    shard = folder / "toy-train.tfrecord-00001-of-00003"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    source = RecordSource(URL, requests=4)
    with pytest.raises(DataError, match=r"gs://.*00001-of-00003: record 0 at byte 0: the checksum"):
        list(source.read_each(range(COUNT)))
    shard.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"bytes, .* in the manifest"):
        RecordSource(URL, requests=4)
    shard.unlink()
    with pytest.raises(DataError, match="missing"):
        RecordSource(URL, requests=4)


def test_a_record_that_cannot_be_reached_is_one_line(folder, bucket, monkeypatch):
    source = RecordSource(URL, requests=4)

    def refuse(*_, **__):
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(bucket, "cat_file", refuse)
    with pytest.raises(DataError, match=r"00000-of-00003 cannot be reached \(reset by peer\)"):
        next(source.read_each([0]))


def test_lengths_that_do_not_fill_the_shards_are_refused(folder, bucket):
    manifest = load_manifest(folder)
    write_lengths(folder, manifest, [1] * COUNT)
    with pytest.raises(DataError, match="not the lengths of this set; remove it"):
        RecordSource(URL, requests=4)


def test_the_ends_of_a_shard_cost_little(folder, bucket):
    shard = f"{URL}/toy-train.tfrecord-00000-of-00003"
    first, last = read_ends(shard)
    assert (first, last) == read_ends(folder / "toy-train.tfrecord-00000-of-00003")
    assert len(bucket.parts) == 3


def test_the_manifest_does_not_depend_on_the_lengths(folder):
    # Runs that were begun on this set go on with it.
    assert "lengths" not in json.dumps(load_manifest(folder).to_dict())
