"""Where a model is: a local path, a pinned revision on the Hugging Face hub, or a bucket."""

import contextlib
import glob
import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath

from etils import epath
from huggingface_hub import list_repo_files, snapshot_download

from mre_jax.errors import DataError, MreError
from mre_jax.io.files import reached
from mre_jax.weights.files.folder import (
    AVERAGE,
    COMPONENTS,
    SAFETY_CHECKER,
    SMALL_FILES,
    SMALL_FOLDERS,
    SMARTEDIT,
)
from mre_jax.weights.files.orbax_folder import FOLDER as ORBAX
from mre_jax.weights.files.source import WEIGHT_SUFFIXES
from mre_jax.weights.files.weight_files import choose, weight_sets
from mre_jax.weights.names.smartedit import ADAPTERS, releases

Select = Callable[[Collection[str]], list[str]]


@contextlib.contextmanager
def local_path(spec: epath.PathLike, select: Select | None = None) -> Iterator[Path]:
    """A local folder or file for `spec`, valid inside the `with`.

    Args:
        spec: a local path; `org/name@REVISION` on the hub, with a revision of 40 hex digits and
            optionally `/folder-or-file` after it; or `gs://bucket/path`, which is copied to a
            temporary folder.
        select: which of a remote folder's files are fetched; by default a model's `needed_files`.

    Raises:
        DataError: when nothing is there, or a hub model is named without a pinned revision.
    """
    text, select = str(spec), select or needed_files
    if "://" in text:
        with tempfile.TemporaryDirectory(prefix="mre-weights-") as staged:
            with reached(text) as remote:
                local = _staged(remote, Path(staged), select)
            try:
                yield local
            except MreError as error:  # the copy is gone when its name is read
                error.args = (str(error).replace(str(local), text),)
                raise
    elif Path(text).exists():
        yield Path(text)
    elif (match := _PINNED.fullmatch(text)) and ".." not in text.split("/"):
        yield _snapshot(match["repository"], match["revision"], match["inside"] or "", select)
    elif match:
        raise DataError(f"{text} leads out of its repository; name a file or folder inside it")
    elif _UNPINNED.fullmatch(text):
        raise DataError(
            f"{text} is neither a local path nor a pinned hub model; for the hub write "
            "org/name@REVISION with the 40 hex digits of a commit"
        )
    else:
        raise DataError(f"{text} does not exist; give a folder, a weight file or org/name@REVISION")


def needed_files(
    names: Collection[str],
    weights: str | None = None,
    components: Collection[str] | None = None,
) -> list[str]:
    """Those of a folder's files that a model, or a component, is opened from.

    They are the small files, and of each component's weights the set that would be taken; not the
    other formats and precisions, nor the files that hold a whole model once more.

    Args:
        names: paths in the folder, with "/" between their parts.
        weights: "ema" or "raw", where there are both.
        components: the only ones whose weights are read; None is all.
    """
    folders: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        parent = str(path.parent) if path.parent.parts else ""
        folders.setdefault(parent, []).append(path.name)
    average = weights != "raw" and AVERAGE in folders
    unused = "unet" if average else AVERAGE
    needed = []
    is_release = len(releases(names)) > 1
    for folder, files in folders.items():
        chosen = set()
        if is_release and folder not in (*_WITH_WEIGHTS[1:], *SMALL_FOLDERS):
            chosen = _of_release(folder, files)
        elif ORBAX in PurePosixPath(folder).parts:
            chosen = set(files)
        elif folder in _WITH_WEIGHTS or folder in SMALL_FOLDERS:
            chosen = {
                name for name in files if name.endswith(SMALL_FILES) and ".index." not in name
            }
            # Those of a component come without its config.json too, whose absence is then an error.
            is_component = folder in _WITH_WEIGHTS and (folder or "config.json" in files)
            if is_component and folder != unused and not _is_other(folder, components):
                chosen |= _weights_of(files, weights)
        needed += [f"{folder}/{name}" if folder else name for name in sorted(chosen)]
    return needed


def _of_release(folder: str, files: list[str]) -> set[str]:
    """What is read of a folder of SmartEdit's official release, or beside it."""
    if "/" in folder:
        return set()
    if not folder:
        return {name for name in files if name.endswith((".json", ".model"))}
    chosen = {name for name in files if name in (ADAPTERS, "tokenizer.model", "config.json")}
    chosen |= {name for name in files if releases([f"{folder}/{name}"])}
    return chosen | (_weights_of(files, None) if "config.json" in files else set())


def _is_other(folder: str, components: Collection[str] | None) -> bool:
    """Whether a folder is of a component that is not asked for."""
    name = "unet" if folder == AVERAGE else folder
    return components is not None and name in (*COMPONENTS, *SMARTEDIT) and name not in components


def _weights_of(files: list[str], weights: str | None) -> set[str]:
    taken, _ = choose(files, weights)
    # Raw weights beside them show that they are a moving average.
    twin, _ = choose(files, "raw") if weights == "ema" else (None, None)
    return {name for found in (taken, twin) if found is not None for name in found.files}


def _staged(remote: epath.Path, folder: Path, select: Select) -> Path:
    if not remote.exists():
        raise DataError(f"{remote} does not exist, or these credentials cannot see it")
    target = folder / remote.name
    if not remote.is_dir():
        siblings = [child.name for child in remote.parent.iterdir()]
        for name in _with_shards(remote.name, siblings):
            (remote.parent / name).copy(folder / name)
        return target
    target.mkdir()
    for name in _selected(list(_names(remote)), str(remote), select):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (remote / name).copy(target / name)
    return target


def _with_shards(name: str, names: Collection[str]) -> list[str]:
    """A file, and of an index of shards the shards, which lie beside it."""
    folder, slash, entry = name.rpartition("/")
    prefix = folder + slash
    beside = [n.removeprefix(prefix) for n in names if n.startswith(prefix)]
    sets = [found.files for found in weight_sets(beside) if found.entry == entry]
    return [prefix + file for file in (sets[0] if sets else (entry,))]


def _names(folder: epath.Path, prefix: str = "") -> Iterator[str]:
    for child in folder.iterdir():
        if child.is_dir():
            yield from _names(child, f"{prefix}{child.name}/")
        else:
            yield prefix + child.name


def _snapshot(repository: str, revision: str, inside: str, select: Select) -> Path:
    where = f"{repository}@{revision}"
    try:
        names = list_repo_files(repository, revision=revision)
    except Exception as error:  # whatever the transport raises: what was fetched before may do
        snapshot = _cached(repository, revision, error)
    else:
        chosen = _inside(names, inside, where, select)
        snapshot = snapshot_download(
            repository, revision=revision, allow_patterns=[glob.escape(name) for name in chosen]
        )
    path = Path(snapshot, inside)
    if not path.exists():
        raise DataError(f"{where} holds no {inside}")
    return path


def _inside(names: list[str], inside: str, where: str, select: Select) -> list[str]:
    """What to fetch of a repository for one of its files or folders; "" is the whole."""
    if inside in names:
        return _with_shards(inside, names)
    prefix = f"{inside.rstrip('/')}/" if inside else ""
    below = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    if not below:
        raise DataError(f"{where} holds no {inside}")
    chosen = _selected(below, f"{where}/{inside}".rstrip("/"), select)
    return [prefix + name for name in chosen]


def _selected(names: list[str], where: str, select: Select) -> list[str]:
    """Those that `select` takes; an error where there are weights, and no model."""
    chosen = select(names)
    files = [name for name in names if name.endswith(WEIGHT_SUFFIXES)]
    if files and not any(n in files or PurePosixPath(n).name == "config.json" for n in chosen):
        raise DataError(
            f"{where} is no model folder; name one of its files, as {where}/{min(files)}"
        )
    return chosen


def _cached(repository: str, revision: str, error: Exception) -> str:
    """What an earlier run has fetched."""
    try:
        return snapshot_download(
            repository, revision=revision, allow_patterns=[], local_files_only=True
        )
    except OSError:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{repository}@{revision} cannot be read from the hub, and no copy of it is cached "
            f"here ({reason}); check its name, the network, and your token (HF_TOKEN)"
        ) from None


_REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
_PINNED = re.compile(_REPOSITORY + r"@(?P<revision>[0-9a-f]{40})(?:/(?P<inside>.+))?")
_UNPINNED = re.compile(r"(?!\.)" + _REPOSITORY + r"(@[\w./-]+)?")

_WITH_WEIGHTS = ("", *COMPONENTS, *SMARTEDIT, AVERAGE, SAFETY_CHECKER)
