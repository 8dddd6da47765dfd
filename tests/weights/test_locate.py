"""A model comes from a path, from a pinned revision, or from a bucket, and from nowhere else."""

from fnmatch import fnmatch

import pytest
from etils import epath

from mre_jax.errors import DataError
from mre_jax.weights import locate
from mre_jax.weights.locate import local_path, needed_files
from mre_jax.weights.opening import model_at
from tests.weights.tiny import convert

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


@pytest.mark.parametrize(
    "spec", ["/nowhere/model", "nowhere", "./nowhere", "a/b/c/d", "https:/x", ""]
)
def test_nothing_there_is_said(spec):
    if spec:
        with pytest.raises(DataError, match="does not exist"):
            located(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("https://huggingface.co/org/name", r"is on the web.* as org/name@REVISION"),
        ("hf://org/name", r"is on the web.* as org/name@REVISION"),
        ("https://example.org/m.ckpt", r"is on the web, .*; fetch it$"),
        ("file:///x", r"file:///x.* cannot be reached"),
    ],
)
def test_an_address_is_refused_with_what_to_write_for_it(spec, message, pipeline_folder):
    with pytest.raises(DataError, match=message):
        located(spec)
    with pytest.raises(DataError, match=message):
        convert(pipeline_folder, f"{spec}/out")


def test_a_bucket_that_cannot_be_reached_is_said_in_one_line(monkeypatch):
    class Down:
        def __init__(self, path):
            pass

        def exists(self):
            raise RuntimeError("no route to host\nand its trace")

    monkeypatch.setattr(locate.epath, "Path", Down)
    with pytest.raises(
        DataError, match=r"gs://b/m cannot be reached \(no route to host\)"
    ) as error:
        located("gs://b/m")
    assert "\n" not in str(error.value)


def test_a_path_out_of_a_repository_is_refused():
    with pytest.raises(DataError, match="leads out of its repository"):
        located(f"org/name@{REVISION}/../../other")


SINGLE = ("v1-5-pruned.ckpt", "v1-5-pruned-emaonly.safetensors", "v1-5-pruned-emaonly.ckpt")
SMALL = (
    *("model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt"),
    *("tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json"),
    *("tokenizer/vocab.json", "feature_extractor/preprocessor_config.json", "unet/config.json"),
    *("vae/config.json", "text_encoder/config.json", "safety_checker/config.json"),
)
UNET, VAE = "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"
TEXT, CHECKER = "text_encoder/", "safety_checker/"
SAFE = (
    *(f"{UNET}.safetensors", f"{VAE}.safetensors"),
    *(f"{TEXT}model.safetensors", f"{CHECKER}model.safetensors"),
)
PICKLED = tuple(
    name.replace("/model.safetensors", "/pytorch_model.bin").replace(".safetensors", ".bin")
    for name in SAFE
)


def half(names):
    return tuple(name.rpartition(".")[0] + ".fp16." + name.rpartition(".")[2] for name in names)


NON_EMA = (f"{UNET}.non_ema.safetensors", f"{UNET}.non_ema.bin")
SHARDS = tuple(f"{UNET}-0000{i}-of-00002.bin" for i in (1, 2))
SMARTEDIT = (
    *("llm/config.json", "llm/model.safetensors.index.json", "llm_tokenizer/tokenizer.model"),
    *(f"llm/model-0000{i}-of-00002.safetensors" for i in (1, 2)),
    *(f"{name}/config.json" for name in ("vision", "projector", "qformer", "bim")),
    *(f"{name}/model.safetensors" for name in ("vision", "projector", "qformer", "bim")),
)
REPOSITORIES = {
    "timbrooks/instruct-pix2pix": (
        ("instruct-pix2pix-00-22000.ckpt", "README.md", ".gitattributes", *SAFE, *PICKLED),
        SAFE,
    ),
    "stable-diffusion-v1-5": (
        (*SINGLE, "README.md", *SAFE, *PICKLED, *half(SAFE), *half(PICKLED), *NON_EMA),
        SAFE,
    ),
    "an older fine-tune": (("model.ckpt", *PICKLED), PICKLED),
    "half precision": (half(SAFE), half(SAFE)),
    "half precision, pickled": (half(PICKLED), half(PICKLED)),
    "mixed": ((SAFE[0], *PICKLED[1:]), (SAFE[0], *PICKLED[1:])),
    "shards": (
        (*SHARDS, f"{UNET}.bin.index.json", *half(SAFE[:1]), *SAFE[1:]),
        (*SHARDS, f"{UNET}.bin.index.json", *SAFE[1:]),
    ),
    "images beside it": ((*SAFE, "images/1.png", "logs/a/b/config.json", "a/b/c.bin"), SAFE),
    "other formats": (
        (*SAFE, "unet/model.onnx", "unet/diffusion_flax_model.msgpack", "unet/openvino_model.bin"),
        SAFE,
    ),
    "SmartEdit": (
        (*SAFE, *SMARTEDIT, "llm/other.bin", "llm/pytorch_model.bin", "vision/flax_model.msgpack"),
        (*SAFE, *SMARTEDIT),
    ),
    "another network": ((*SAFE, "image_encoder/model.safetensors"), SAFE),
}


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_of_a_repository_one_set_of_weights_is_fetched(repository):
    """4 GB in place of 30, and of an older repository more than nothing."""
    there, weights = REPOSITORIES[repository]
    assert sorted(needed_files([*there, *SMALL])) == sorted([*weights, *SMALL])


def test_the_raw_weights_are_fetched_where_they_are_asked_for():
    files = [*SAFE, *NON_EMA, *SMALL]
    assert NON_EMA[0] in needed_files(files, "raw") and SAFE[0] not in needed_files(files, "raw")
    assert {SAFE[0], NON_EMA[0]} <= set(needed_files(files, "ema"))
    run = ["unet/config.json", SAFE[0], "unet_ema/config.json", SAFE[0].replace("/", "_ema/")]
    assert needed_files(run) == ["unet/config.json", *run[2:]]
    assert needed_files(run, "raw") == [*run[:3]]


def test_of_one_component_the_others_weights_are_not_fetched():
    """13 GB of language model are not copied from a bucket for a UNet's sake."""
    files = ["llm/config.json", "llm/model.safetensors", *SAFE, *SMALL]
    needed = needed_files(files, components=("unet",))
    assert sorted(needed) == sorted(["llm/config.json", SAFE[0], SAFE[3], *SMALL])


def test_the_official_release_of_smartedit_is_fetched_with_what_lies_beside_it():
    there = [
        "LLM-15000/adapter_model.bin",
        "LLM-15000/adapter_config.json",
        "embeddings_qformer/checkpoint-15000_embeddings_qformer.bin",
        "modulate-15000/adapter_model.bin",
        "unet-15000/adapter_model.bin",
        "tokenizer.model",
        "clip/config.json",
        "clip/model.safetensors",
        *SAFE[1:],
        *SMALL,
    ]
    others = ["README.md", "clip/pytorch_model.bin", "LLM-15000/optimizer.pt", "log/a/model.bin"]
    assert sorted(needed_files([*there, *others])) == sorted(there)


def test_our_own_form_is_fetched_whole():
    files = ["unet/config.json", "unet/tensors.json", "unet/orbax/_METADATA", "unet/orbax/d/1"]
    assert sorted(needed_files(files)) == sorted(files)


def test_a_lone_clip_is_fetched_with_its_surroundings():
    files = ["config.json", "merges.txt", "preprocessor_config.json", "vocab.json"]
    there = [*files, "README.md", "flax_model.msgpack", "pytorch_model.bin", "tf_model.h5"]
    assert sorted(needed_files(there)) == sorted([*files, "pytorch_model.bin"])


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository, of which `snapshot_download` notes and makes what was asked for."""
    asked = []
    files = [*SAFE, *SMALL, "a whole [model].ckpt", *SHARDS, f"{UNET}.bin.index.json"]
    files += [f"stage2/{name}" for name in (*SAFE, *SMALL)]

    def listed(repository, revision):
        if repository == "org/down":
            raise ConnectionError("no route to host\nhelp")
        return files if repository == "org/name" else ["a.ckpt", "README.md"]

    def snapshot_download(repository, revision, allow_patterns, local_files_only=False):
        if local_files_only and revision != REVISION:
            raise FileNotFoundError("no snapshot")
        names = [name for name in files if any(fnmatch(name, p) for p in allow_patterns)]
        asked.append((repository, revision, set(names)))
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return str(tmp_path)

    monkeypatch.setattr(locate, "list_repo_files", listed)
    monkeypatch.setattr(locate, "snapshot_download", snapshot_download)
    return asked


def test_a_pinned_model_is_fetched_at_its_revision_without_the_whole_model_files(hub, tmp_path):
    assert located(f"org/name@{REVISION}") == tmp_path
    assert hub == [("org/name", REVISION, {*SAFE, *SMALL})]


def test_a_folder_or_file_inside_a_repository(hub, tmp_path):
    assert located(f"org/name@{REVISION}/stage2") == tmp_path / "stage2"
    assert hub[0][2] == {f"stage2/{name}" for name in (*SAFE, *SMALL)}
    file = "a whole [model].ckpt"
    assert located(f"org/name@{REVISION}/{file}") == tmp_path / file
    assert hub[1][2] == {file}
    index = f"{UNET}.bin.index.json"
    assert located(f"org/name@{REVISION}/{index}") == tmp_path / index
    assert hub[2][2] == {index, *SHARDS}
    with pytest.raises(DataError, match="holds no other"):
        located(f"org/name@{REVISION}/other")


def test_a_repository_of_files_asks_for_one(hub):
    with pytest.raises(DataError, match=f"no model folder; .* as org/files@{REVISION}/a.ckpt"):
        located(f"org/files@{REVISION}")


def test_without_network_what_was_fetched_before_is_used(hub, tmp_path):
    assert located(f"org/down@{REVISION}") == tmp_path
    with pytest.raises(DataError, match=r"no copy of it is cached here \(no route to host\)"):
        located(f"org/down@{'1' * 40}")


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
    (source / "whole.ckpt").touch()
    with local_path("gs://bucket/model") as path:
        assert (path / "unet/config.json").read_text() == "{}"
        assert not (path / "whole.ckpt").exists()
        assert path.name == "model" and path != source
    assert not path.exists()
    with local_path("gs://bucket/model/unet/config.json") as path:
        assert path.read_text() == "{}"
    for name in ("model-00001-of-00001.safetensors", "model.safetensors.index.json", "x.bin"):
        (source / name).touch()
    with local_path("gs://bucket/model/model.safetensors.index.json") as path:
        assert sorted(p.name for p in path.parent.iterdir()) == [
            "model-00001-of-00001.safetensors",
            "model.safetensors.index.json",
        ]
    with pytest.raises(DataError, match="does not exist, or these credentials"):
        located("gs://bucket/none")
    with pytest.raises(DataError, match=f"no model folder; .* as {source.parent}/files/a.ckpt"):
        (source.parent / "files").mkdir()
        (source.parent / "files/a.ckpt").touch()
        located("gs://bucket/files")
    with pytest.raises(DataError, match=r"^gs://bucket/model/unet holds weights and no config"):
        (source / "unet/config.json").rename(source / "unet/diffusion_pytorch_model.bin")
        with model_at("gs://bucket/model"):
            pytest.fail("opened")


def test_what_a_bucket_lent_is_noted_under_its_name(pipeline_folder, tmp_path, monkeypatch):
    real = epath.Path
    bucket = str(pipeline_folder.parent)
    monkeypatch.setattr(
        locate.epath, "Path", lambda path: real(str(path).replace("gs://bucket", bucket))
    )
    base = f"gs://bucket/{pipeline_folder.name}"
    with model_at(pipeline_folder / "unet", base=base) as model:
        assert model.notes[0].endswith(f"taken from {base}")
