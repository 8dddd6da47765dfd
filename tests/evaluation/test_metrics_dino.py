import jax
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.metrics.dino import IMAGENET_MEAN, IMAGENET_STD, DINOScores, preprocess_of
from mre_jax.evaluation.metrics.vit import VisionTransformer, ViTConfig
from mre_jax.models.layers import Compute
from tests.evaluation.metric_pictures import pictures
from tests.parity import relative_error, torch_shapes

# Heads of width 64, which the file does not show.
TINY = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
PICTURES = pictures([(40, 40), (64, 48), (33, 50)])
GENERATED = pictures([(40, 40), (64, 48), (33, 50)], seed=1)


def _reference(config):
    """transformers' ViT without its pooler, with random weights."""
    transformers = pytest.importorskip("transformers")
    from tests.parity import randomize_torch

    config = transformers.ViTConfig(**config, layer_norm_eps=1e-6)
    return randomize_torch(transformers.ViTModel(config, add_pooling_layer=False).eval())


def _states(model, pixels):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model(torch.from_numpy(pixels.transpose(0, 3, 1, 2))).last_hidden_state


def _released(model):
    """The state dict of the authors' file, from the tensors of transformers' module."""
    torch = pytest.importorskip("torch")
    theirs = model.state_dict()
    released = {
        "cls_token": theirs["embeddings.cls_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
        "patch_embed.proj.weight": theirs["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": theirs["embeddings.patch_embeddings.projection.bias"],
    }
    for leaf in ("weight", "bias"):
        released[f"norm.{leaf}"] = theirs[f"layernorm.{leaf}"]
        for i in range(len(model.layers)):
            ours, layer = f"blocks.{i}", f"layers.{i}"
            parts = [theirs[f"{layer}.attention.{part}_proj.{leaf}"] for part in "qkv"]
            released[f"{ours}.attn.qkv.{leaf}"] = torch.cat(parts)
            released[f"{ours}.attn.proj.{leaf}"] = theirs[f"{layer}.attention.o_proj.{leaf}"]
            released[f"{ours}.norm1.{leaf}"] = theirs[f"{layer}.layernorm_before.{leaf}"]
            released[f"{ours}.norm2.{leaf}"] = theirs[f"{layer}.layernorm_after.{leaf}"]
            for fc in ("mlp.fc1", "mlp.fc2"):
                released[f"{ours}.{fc}.{leaf}"] = theirs[f"{layer}.{fc}.{leaf}"]
    return released


@pytest.fixture(scope="module")
def reference():
    return _reference(TINY)


@pytest.fixture(scope="module")
def file(reference, tmp_path_factory):
    """What a user has."""
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("dino") / "dino_tiny.pth"
    torch.save(_released(reference), path)
    return path


@pytest.fixture(scope="module")
def scores(file):
    return DINOScores.from_pretrained(file, batch_size=2, devices=jax.devices()[:1])


def test_features_and_similarity_are_those_of_transformers(reference, scores):
    torch = pytest.importorskip("torch")
    preprocess = preprocess_of(ViTConfig(**TINY))
    assert (preprocess.resize, preprocess.crop) == (32, 28)
    features = []
    for images in (PICTURES, GENERATED):
        pixels = np.stack([preprocess.pixels(image) for image in images]) / 255
        normalised = ((pixels - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32)
        features.append(torch.nn.functional.normalize(_states(reference, normalised)[:, 0]))
    assert relative_error(scores.features(PICTURES), features[0]) < 1e-5
    expected = torch.nn.functional.cosine_similarity(*features)
    np.testing.assert_allclose(scores.similarity(GENERATED, PICTURES), expected, atol=1e-5)
    np.testing.assert_allclose(scores.similarity(PICTURES, PICTURES), 1, rtol=1e-12)


def test_eight_devices_say_what_one_says(file, scores):
    many = DINOScores.from_pretrained(file, batch_size=1)
    np.testing.assert_allclose(many.features(PICTURES), scores.features(PICTURES), atol=1e-6)
    assert many.measure == scores.measure


def test_a_folder_of_transformers_is_the_same_network(reference, scores, tmp_path):
    reference.save_pretrained(tmp_path)
    folder = DINOScores.from_pretrained(tmp_path, batch_size=2, devices=jax.devices()[:1])
    assert folder.measure == scores.measure
    np.testing.assert_array_equal(folder.features(PICTURES), scores.features(PICTURES))


def test_the_measure_names_network_weights_and_preprocessing(scores):
    name, preprocessing = scores.measure.split(", ", 1)
    assert name.startswith("DINO ViT-128/7 (")
    assert preprocessing == "shorter side 32 bicubic, crop 28"


def _abstract(config):
    return nnx.eval_shape(lambda: VisionTransformer(config, compute=Compute(), rngs=nnx.Rngs(0)))


def test_the_default_has_the_tensors_of_vit_s_16():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = ViTConfig()
    with torch.device("meta"):
        theirs = transformers.ViTModel(
            transformers.ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536),
            add_pooling_layer=False,
        )
    shapes = torch_shapes(_abstract(config))
    assert shapes == {name: tuple(v.shape) for name, v in _released(theirs).items()}
    assert sum(np.prod(shape) for shape in shapes.values()) == 21_665_664
    preprocess = preprocess_of(config)
    assert (preprocess.resize, preprocess.crop) == (256, 224)


@pytest.mark.slow
def test_the_whole_vit_s_16_is_transformers():
    from tests.parity import load_torch

    reference = _reference(
        {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    )
    model = VisionTransformer(ViTConfig(), compute=Compute(), rngs=nnx.Rngs(0))
    load_torch(model, _released(reference))
    pixels = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    states = jax.jit(lambda x: model(x))(pixels)
    assert relative_error(states, _states(reference, pixels)) < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("pos_embed"), "lacks pos_embed; give DINO's"),
        (lambda state: state.pop("norm.bias"), "1 missing: norm.bias"),
        (lambda state: state.update(head=state["norm.bias"]), "1 unexpected: head"),
    ],
)
def test_the_file_of_another_network_is_refused_in_one_line(reference, tmp_path, change, message):
    torch = pytest.importorskip("torch")
    state = _released(reference)
    change(state)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(DataError, match=message) as caught:
        DINOScores.from_pretrained(tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


def test_the_full_checkpoint_of_a_training_run_is_refused_in_one_line(reference, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"teacher": _released(reference), "epoch": 1}, tmp_path / "full.pth")
    with pytest.raises(DataError, match=r"full\.pth holds no tensors"):
        DINOScores.from_pretrained(tmp_path / "full.pth")


def test_a_picture_of_another_size_is_refused():
    config = ViTConfig(**{**TINY, "num_hidden_layers": 0})
    model = VisionTransformer(config, compute=Compute(), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match=r"30x28 pixels.*28x28"):
        model(np.zeros((1, 30, 28, 3), np.float32))
