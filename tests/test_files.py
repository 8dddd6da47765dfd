"""Files: what Git LFS left in place of one is called so."""

import pytest

from mre_jax.errors import DataError
from mre_jax.files import refuse_lfs_pointer

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
