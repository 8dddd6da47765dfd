"""The manifest: a set that lost, gained or swapped a file is refused before it is used."""

import dataclasses
import json

import pytest

from mre_jax.data.records.manifest import (
    Manifest,
    Shard,
    check_manifest,
    hash_settings,
    load_manifest,
    shard_file,
    write_manifest,
)
from mre_jax.errors import ConfigError, DataError


def shard(index, content=b"abc", shards=2):
    name = shard_file("toy", "train", index, shards)
    return Shard(name, count=3, bytes=len(content), sha256=f"{index:064x}")


@pytest.fixture
def folder(tmp_path):
    manifest = Manifest("toy", "train", {"seed": 1}, (shard(0), shard(1)))
    for entry in manifest.shards:
        (tmp_path / entry.file).write_bytes(b"abc")
    write_manifest(tmp_path, manifest)
    return tmp_path


def change(folder, **fields):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_it_reads_back(folder):
    manifest = check_manifest(folder)
    assert (manifest.count, manifest.bytes, manifest.settings) == (6, 6, {"seed": 1})
    assert manifest == load_manifest(folder)
    assert manifest.shards[1].file == "toy-train.tfrecord-00001-of-00002"


def test_equal_settings_and_content_have_one_hash(folder):
    assert hash_settings({"a": 1, "b": [2]}) == hash_settings({"b": [2], "a": 1})
    manifest = load_manifest(folder)
    assert manifest.hash == load_manifest(folder).hash
    for other in (
        dataclasses.replace(manifest, settings={"seed": 2}),
        dataclasses.replace(manifest, shards=(shard(0), dataclasses.replace(shard(1), count=4))),
    ):
        assert other.hash != manifest.hash


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.unlink(), "00001-of-00002: missing, with 3 records"),
        (lambda f: f.write_bytes(b""), "00001-of-00002: empty, 3 bytes in the manifest"),
        (lambda f: f.write_bytes(b"ab"), "00001-of-00002: 2 bytes, 3 in the manifest"),
        (
            lambda f: f.with_name("toy-train.tfrecord-00002-of-00003").touch(),
            "00002-of-00003: not in the manifest",
        ),
    ],
)
def test_files_that_do_not_fit_are_named(folder, damage, message):
    damage(folder / "toy-train.tfrecord-00001-of-00002")
    with pytest.raises(DataError, match=message):
        check_manifest(folder)


def test_a_shard_that_is_there_twice_is_named(folder):
    twin = dataclasses.replace(shard(1), sha256=shard(0).sha256)
    write_manifest(folder, Manifest("toy", "train", {}, (shard(0), twin)))
    with pytest.raises(DataError, match=r"00001-of-00002: has the content of toy.*00000-of-00002"):
        check_manifest(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 7}, "count 7 does not fit"),
        ({"settings": {"seed": 2}}, "settings_hash .* does not fit"),
        ({"shards": []}, "no shards"),
        ({"shards": [{"file": "x"}]}, "not the manifest of a prepared set"),
        ({"name": 3}, "not the manifest of a prepared set"),
        ({"name": "other"}, "shard 0 is called 'toy-train"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(folder, fields, message):
    if fields == {"shards": []}:
        fields = fields | {"count": 0}
    change(folder, **fields)
    with pytest.raises(DataError, match=message):
        load_manifest(folder)


def test_a_folder_without_one_is_not_finished(tmp_path):
    with pytest.raises(DataError, match="finish it with the same 'mre prepare' command"):
        load_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="not the manifest"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(("name", "split"), [("a b", "train"), ("../a", "train"), ("a", "x-1")])
def test_names_that_no_file_could_have_are_refused(name, split):
    with pytest.raises(ConfigError, match="want a-z, 0-9 and _"):
        shard_file(name, split, 0, 1)
