"""What the extra `data` brings is asked for before anything that takes long."""

import sys

import pytest

from mre_jax import cli
from mre_jax.data.batches.loader import MODULES, require_data_extra
from mre_jax.data.records import tfrecord
from mre_jax.errors import ConfigError


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, name):
    require_data_extra()
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"{name}.*; pip install 'mre_jax\[data\]'"):
        require_data_extra()


def test_checksums_ask_for_theirs(monkeypatch):
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    tfrecord._crc.cache_clear()
    with pytest.raises(ConfigError, match="google_crc32c"):
        tfrecord.masked_crc(b"")


@pytest.mark.parametrize("name", MODULES)
def test_training_refuses_in_one_line(monkeypatch, tmp_path, capsys, name):
    config = tmp_path / "config.yaml"
    config.write_text(
        "{name: a, steps: 1, model: {init_from: nowhere}, data: {paths: [nowhere], batch_size: 8}}"
    )
    monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["train", str(config), "--run", str(tmp_path / "run"), "--alone"]) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mre train: ") and line.endswith("pip install 'mre_jax[data]'")
    assert not (tmp_path / "run").exists()
