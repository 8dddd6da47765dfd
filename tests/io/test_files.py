"""Files: what Git LFS left in place of one is called so; and they are locked on every system."""

import ast
from pathlib import Path

import pytest

import mre_jax
from mre_jax import cli
from mre_jax.errors import BusyError, DataError
from mre_jax.io.files import locked, refuse_lfs_pointer, write_atomically

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c9\nsize 12345\n"


def test_a_git_lfs_pointer_is_named_and_everything_else_passes(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(POINTER)
    with pytest.raises(DataError, match=r"model\.safetensors: a Git LFS pointer.* git lfs pull"):
        refuse_lfs_pointer(path)
    path.write_bytes(b"version 2")
    refuse_lfs_pointer(path)
    refuse_lfs_pointer(tmp_path)
    refuse_lfs_pointer(tmp_path / "none")


@pytest.mark.parametrize(
    "words",
    [
        ["data", "verify", "https://example.com/set"],
        ["prepare", "table", "http://example.com/set.csv", "--out", "out"],
        ["annotate", "https://example.com/set", "--judge", "toy", "--out", "j"],
        ["edit", "https://example.com/a.jpg", "go", "--model", "M", "-o", "o.png"],
    ],
)
def test_an_address_on_the_web_is_refused_wherever_a_file_is_wanted(
    words, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 65
    error = capsys.readouterr().err
    assert "://example.com/" in error
    assert len(error.splitlines()) == 1


def test_a_folder_that_is_not_there_is_told_by_the_name_of_the_file(tmp_path):
    """Not by that of a temporary file, which nobody has named."""
    with pytest.raises(FileNotFoundError) as error:
        write_atomically(tmp_path / "none" / "table.txt", "")
    assert error.value.filename == str(tmp_path / "none" / "table.txt")


def test_no_module_needs_a_system_with_fcntl():
    """The package imports on Windows, where these modules are missing."""
    missing = {"fcntl", "resource", "pwd", "grp", "termios"}
    for path in Path(mre_jax.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert missing.isdisjoint(names), path


def test_a_lock_that_is_not_kept_leaves_no_file(tmp_path):
    with (
        locked(tmp_path, ".lock", filling="there", keep=False),
        pytest.raises(BusyError, match="there: another process"),
        locked(tmp_path, ".lock", filling="there"),
    ):
        pytest.fail("entered")
    assert not list(tmp_path.iterdir())
    with locked(tmp_path, ".lock"):
        pass
