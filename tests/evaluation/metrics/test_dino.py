import jax
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.metrics.dino import IMAGENET_MEAN, IMAGENET_STD, DINOScores, preprocess_of
from mre_jax.evaluation.metrics.vit import VisionTransformer, ViTConfig
from mre_jax.models.layers import Compute
from tests.evaluation.metric_pictures import pictures
from tests.evaluation.tiny_networks import DINO, make_dino, released_dino
from tests.parity import relative_error, torch_shapes

PICTURES = pictures([(40, 40), (64, 48), (33, 50)])
GENERATED = pictures([(40, 40), (64, 48), (33, 50)], seed=1)


def _states(model, pixels):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model(torch.from_numpy(pixels.transpose(0, 3, 1, 2))).last_hidden_state


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("torch")
    return make_dino(**DINO)


@pytest.fixture(scope="module")
def file(reference, tmp_path_factory):
    """What a user has."""
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("dino") / "dino_tiny.pth"
    torch.save(released_dino(reference), path)
    return path


@pytest.fixture(scope="module")
def scores(file):
    return DINOScores.from_pretrained(file, batch_size=2, devices=jax.devices()[:1])


def test_features_and_similarity_are_those_of_transformers(reference, scores):
    torch = pytest.importorskip("torch")
    preprocess = preprocess_of(ViTConfig(**DINO))
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
    assert shapes == {name: tuple(v.shape) for name, v in released_dino(theirs).items()}
    assert sum(np.prod(shape) for shape in shapes.values()) == 21_665_664
    preprocess = preprocess_of(config)
    assert (preprocess.resize, preprocess.crop) == (256, 224)


@pytest.mark.slow
def test_the_whole_vit_s_16_is_transformers():
    from tests.parity import load_torch

    pytest.importorskip("torch")
    reference = make_dino(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
    model = VisionTransformer(ViTConfig(), compute=Compute(), rngs=nnx.Rngs(0))
    load_torch(model, released_dino(reference))
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
    state = released_dino(reference)
    change(state)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(DataError, match=message) as caught:
        DINOScores.from_pretrained(tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


def test_the_full_checkpoint_of_a_training_run_is_refused_in_one_line(reference, tmp_path):
    torch = pytest.importorskip("torch")
    both = {name: released_dino(reference) for name in ("student", "teacher")}
    torch.save({**both, "epoch": 1}, tmp_path / "full.pth")
    with pytest.raises(DataError, match=r"full\.pth lacks .*; give DINO's"):
        DINOScores.from_pretrained(tmp_path / "full.pth")


def test_a_picture_of_another_size_is_refused():
    config = ViTConfig(**{**DINO, "num_hidden_layers": 0})
    model = VisionTransformer(config, compute=Compute(), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match=r"30x28 pixels.*28x28"):
        model(np.zeros((1, 30, 28, 3), np.float32))
