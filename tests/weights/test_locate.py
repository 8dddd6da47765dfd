"""A model comes from a path, from a pinned revision, or from a bucket, and from nowhere else."""

import pytest
from etils import epath

from mre_jax.errors import DataError
from mre_jax.weights import locate
from mre_jax.weights.locate import local_path

REVISION = "0123456789abcdef0123456789abcdef01234567"


def located(spec):
    with local_path(spec) as path:
        return path


def test_a_local_path_is_itself(tmp_path):
    assert located(tmp_path) == tmp_path
    assert located(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    "spec", ["org/name", "org/name@main", "org/name@v1.0", f"org/name@{REVISION[:7]}"]
)
def test_an_unpinned_hub_model_is_refused_with_the_remedy(spec):
    with pytest.raises(DataError, match="write org/name@REVISION with the 40 hex digits"):
        located(spec)


@pytest.mark.parametrize("spec", ["/nowhere/model", "nowhere", "a/b/c/d", "https:/x", ""])
def test_nothing_there_is_said(spec):
    if spec:
        with pytest.raises(DataError, match="does not exist"):
            located(spec)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    calls = []

    def snapshot_download(repository, **options):
        calls.append((repository, options))
        (tmp_path / "stage2/unet").mkdir(parents=True, exist_ok=True)
        (tmp_path / "model.ckpt").touch()
        return str(tmp_path)

    monkeypatch.setattr(locate, "snapshot_download", snapshot_download)
    return calls


def test_a_pinned_model_is_fetched_at_its_revision_without_the_whole_model_files(hub, tmp_path):
    from fnmatch import fnmatch

    assert located(f"org/name@{REVISION}") == tmp_path
    repository, options = hub[0]
    assert (repository, options["revision"]) == ("org/name", REVISION)

    def fetched(name):
        allowed = any(fnmatch(name, pattern) for pattern in options["allow_patterns"])
        return allowed and not any(fnmatch(name, pattern) for pattern in options["ignore_patterns"])

    assert fetched("model_index.json") and fetched("tokenizer/merges.txt")
    assert fetched("unet/diffusion_pytorch_model.safetensors")
    assert fetched("diffusion_pytorch_model.safetensors") and fetched("config.json")
    assert not fetched("v1-5-pruned.safetensors") and not fetched("v1-5-pruned.ckpt")
    assert not fetched("unet/diffusion_pytorch_model.fp16.safetensors")
    assert not fetched("unet/diffusion_pytorch_model.bin")


def test_a_folder_or_file_inside_a_repository(hub, tmp_path):
    assert located(f"org/name@{REVISION}/stage2") == tmp_path / "stage2"
    assert all(pattern.startswith("stage2/") for pattern in hub[0][1]["allow_patterns"])
    assert located(f"org/name@{REVISION}/model.ckpt") == tmp_path / "model.ckpt"
    assert hub[1][1]["allow_patterns"] == ["model.ckpt"]
    with pytest.raises(DataError, match="holds no other"):
        located(f"org/name@{REVISION}/other")


def test_a_bucket_is_staged_and_cleaned_up(tmp_path, monkeypatch):
    source = tmp_path / "bucket/model"
    (source / "unet").mkdir(parents=True)
    (source / "unet/config.json").write_text("{}")
    real = epath.Path
    monkeypatch.setattr(
        locate.epath,
        "Path",
        lambda path: real(str(path).replace("gs://bucket", str(source.parent))),
    )
    with local_path("gs://bucket/model") as path:
        assert (path / "unet/config.json").read_text() == "{}"
        assert path.name == "model" and path != source
    assert not path.exists()
    with local_path("gs://bucket/model/unet/config.json") as path:
        assert path.read_text() == "{}"
    with pytest.raises(DataError, match="does not exist, or these credentials"):
        located("gs://bucket/none")
