"""A set in a bucket is copied once, whole, and read like a local one."""

import pickle
import shutil

import pytest
from etils import epath

from mre_jax.data.batches.loader import Loader
from mre_jax.data.records.local_copy import local_copy
from mre_jax.data.records.record_source import RecordSource
from mre_jax.errors import DataError
from tests.data.batches.test_loader import triplets
from tests.data.shards import write_set

URL = "gs://bucket/set"


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A set of three shards at `URL`, which is a folder; copies go to `copies`."""
    real = epath.Path
    monkeypatch.setattr(
        epath, "Path", lambda path: real(str(path).replace("gs://bucket", str(tmp_path)))
    )
    monkeypatch.setenv("MRE_DATA_CACHE", str(tmp_path / "copies"))
    return write_set(tmp_path / "set", triplets(9))


def test_batches_are_those_of_the_set_itself(bucket):
    remote, local = RecordSource(URL), RecordSource(bucket)
    assert [remote[n] for n in range(9)] == [local[n] for n in range(9)]
    batches = [Loader([source], 4, 0).batch(1) for source in (remote, local)]
    assert batches[0].instruction == batches[1].instruction
    shutil.rmtree(bucket)
    assert pickle.loads(pickle.dumps(remote))[3] == local[3]  # noqa: S301


def test_it_is_copied_once_and_goes_on_after_a_stop(bucket):
    first = local_copy(URL)
    (first / "manifest.json").unlink()
    kept, missing, _ = sorted(first.glob("toy*"))
    (first / ".torn.tmp").write_bytes(b"half")
    whole, written = missing.read_bytes(), kept.stat().mtime
    missing.unlink()
    assert local_copy(URL) == first
    assert (missing.read_bytes(), kept.stat().mtime) == (whole, written)
    assert not (first / ".torn.tmp").exists()
    missing.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=f"{first}.*bytes, .* in the manifest"):
        RecordSource(URL)


def test_another_set_at_the_same_place_is_copied_anew(bucket):
    first = local_copy(URL)
    shutil.rmtree(bucket)
    write_set(bucket, triplets(6))
    assert local_copy(URL) != first
    assert len(RecordSource(URL)) == 6


def test_what_arrives_damaged_is_refused_and_not_kept(bucket):
    shard = bucket / "toy-train.tfrecord-00001-of-00003"
    data = bytearray(shard.read_bytes())
    data[50] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match="00001-of-00003: its content is not that of the manifest"):
        RecordSource(URL)
    (copy,) = (bucket.parent / "copies").iterdir()
    names = {path.name for path in copy.iterdir()}
    assert names == {".lock", "toy-train.tfrecord-00000-of-00003"}


def test_a_local_set_is_its_own_copy(bucket):
    assert str(local_copy(bucket)) == str(bucket)


def test_the_index_is_copied_with_the_set(bucket, capsys):
    scores = RecordSource(bucket).index["scores"]
    assert "prepared without an index" in capsys.readouterr().err
    remote = RecordSource(URL)
    assert (remote.index["scores"] == scores).all()
    assert "prepared without an index" not in capsys.readouterr().err
