"""Where a model is: a local path, a pinned revision on the Hugging Face hub, or a bucket."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath
from huggingface_hub import snapshot_download

from mre_jax.errors import DataError
from mre_jax.weights.source import PICKLED_SUFFIXES


@contextlib.contextmanager
def local_path(spec: epath.PathLike) -> Iterator[Path]:
    """A local folder or file for `spec`, valid inside the `with`.

    Args:
        spec: a local path; `org/name@REVISION` on the hub, with a revision of 40 hex digits and
            optionally `/folder-or-file` after it; or `gs://bucket/path`, which is copied to a
            temporary folder.

    Raises:
        DataError: when nothing is there, or a hub model is named without a pinned revision.
    """
    text = str(spec)
    if "://" in text:
        with tempfile.TemporaryDirectory(prefix="mre-weights-") as staged:
            yield _staged(epath.Path(text), Path(staged))
    elif Path(text).exists():
        yield Path(text)
    elif match := _PINNED.fullmatch(text):
        yield _snapshot(match["repository"], match["revision"], match["inside"])
    elif _UNPINNED.fullmatch(text):
        raise DataError(
            f"{text} is neither a local path nor a pinned hub model; for the hub write "
            "org/name@REVISION with the 40 hex digits of a commit"
        )
    else:
        raise DataError(f"{text} does not exist; give a folder, a weight file or org/name@REVISION")


def _staged(remote: epath.Path, folder: Path) -> Path:
    if not remote.exists():
        raise DataError(f"{remote} does not exist, or these credentials cannot see it")
    target = folder / remote.name
    if remote.is_dir():
        _copy_folder(remote, target)
    else:
        remote.copy(target)
    return target


def _copy_folder(remote: epath.Path, target: Path) -> None:
    target.mkdir()
    for child in remote.iterdir():
        if child.is_dir():
            _copy_folder(child, target / child.name)
        else:
            child.copy(target / child.name)


def _snapshot(repository: str, revision: str, inside: str | None) -> Path:
    prefix = f"{inside}/" if inside else ""
    patterns = [prefix + pattern for pattern in _PATTERNS]
    if inside and inside.endswith((*PICKLED_SUFFIXES, ".safetensors")):
        patterns = [inside]
    snapshot = snapshot_download(
        repository, revision=revision, allow_patterns=patterns, ignore_patterns=_UNUSED
    )
    path = Path(snapshot, inside or "")
    if not path.exists():
        raise DataError(f"{repository}@{revision} holds no {inside}")
    return path


_REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
_PINNED = re.compile(_REPOSITORY + r"@(?P<revision>[0-9a-f]{40})(?:/(?P<inside>[\w./-]+))?")
_UNPINNED = re.compile(_REPOSITORY + r"(@[\w./-]+)?")

# A model folder without the whole-model files that many repositories keep beside it.
_PATTERNS = [
    *("model_index.json", "config.json", "*.index.json", "*/*.json", "*/*.txt"),
    # A lone CLIP or ViT has its tokenizer and preprocessing beside its weights.
    *("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"),
    "preprocessor_config.json",
    *("diffusion_pytorch_model*.safetensors", "model*.safetensors", "*/*.safetensors"),
]
_UNUSED = ["*.fp16.*", "*.non_ema.*"]
