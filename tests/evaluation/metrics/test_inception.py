import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.metrics.inception import FEATURES, InceptionV3
from mre_jax.evaluation.metrics.inception_input import InceptionInput
from mre_jax.evaluation.metrics.inception_scores import InceptionScores
from mre_jax.models.layers import Compute
from tests.evaluation.metric_pictures import pictures
from tests.parity import load_torch, relative_error, torch_shapes

WIDTH = 4
INPUT = InceptionInput(side=80)  # below 75 the last blocks have no pixel left
PICTURES = pictures([(90, 90), (64, 48), (133, 80), (80, 80), (200, 31)])
GENERATED = pictures([(90, 90), (64, 48), (133, 80), (80, 80), (200, 31)], seed=1)


def _reference(**options):
    pytest.importorskip("torch")
    from tests.evaluation.metrics.inception_reference import random_inception

    return random_inception(**options)


def _features(reference, pixels):
    """Of normalised pixels [b H W 3]."""
    torch = pytest.importorskip("torch")
    return reference(torch.from_numpy(pixels.transpose(0, 3, 1, 2)))


def _state(reference):
    """Without what features do not need."""
    return {
        name: tensor
        for name, tensor in reference.state_dict().items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }


@pytest.fixture(scope="module")
def reference():
    return _reference(width=WIDTH)


@pytest.fixture(scope="module")
def file(reference, tmp_path_factory):
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("inception") / "pt_inception.pth"
    torch.save(reference.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def scores(file):
    return InceptionScores.from_pretrained(file, INPUT, batch_size=2, devices=jax.devices()[:1])


def test_every_feature_is_pytorchs(reference, scores):
    pixels = np.stack([INPUT.pixels(picture) for picture in PICTURES])
    theirs = _features(reference, (pixels - 128) / 128)
    ours = scores._images(PICTURES)
    assert tuple(ours) == FEATURES
    for width in FEATURES:
        assert ours[width].shape == (5, width * WIDTH // 64)
        assert relative_error(ours[width], theirs[width]) < 1e-5


@pytest.mark.slow
def test_the_whole_network_is_pytorchs():
    reference = _reference()
    model = InceptionV3(compute=Compute(), rngs=nnx.Rngs(0))
    load_torch(model, _state(reference))
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 299, 299, 3)).astype(np.float32)
    ours, theirs = jax.jit(lambda x: model(x))(pixels), _features(reference, pixels)
    for width in FEATURES:
        assert relative_error(ours[width], theirs[width]) < 1e-4


def test_the_published_size_has_the_tensors_of_pytorchs():
    torch = pytest.importorskip("torch")
    from tests.evaluation.metrics.inception_reference import Inception

    with torch.device("meta"):
        theirs = Inception()
    ours = torch_shapes(nnx.eval_shape(lambda: InceptionV3(compute=Compute(), rngs=nnx.Rngs(0))))
    assert ours == {name: tuple(tensor.shape) for name, tensor in _state(theirs).items()}
    # Weights of torchvision's Inception v3 without its two classifiers, and two statistics for
    # each of its 17,216 normalised channels.
    assert sum(np.prod(shape) for shape in ours.values()) == 21_785_568 + 2 * 17_216


def test_pictures_are_sampled_as_each_program_does():
    torch = pytest.importorskip("torch")
    halves = InceptionInput("pytorch-fid", side=80)
    for picture in PICTURES:
        pixels = np.array(picture, np.float32).transpose(2, 0, 1)[None]
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(pixels), size=(80, 80), mode="bilinear", align_corners=False
        )
        expected = theirs[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(halves.pixels(picture), expected, atol=255e-5)
    ends = jnp.broadcast_to(jnp.float32([[0], [255]]), (1, 1, 2, 3))
    np.testing.assert_allclose(halves.normalise(ends)[0, 0, :, 0], [-1, 1])


def test_tensorflows_samples_start_at_the_first_pixel():
    # Twice the size: each pixel, and the middle between it and the next; the last one repeats.
    picture = pictures([(40, 40)])[0]
    pixels = np.asarray(picture).astype(np.float32)
    doubled = INPUT.pixels(picture)
    np.testing.assert_array_equal(doubled[::2, ::2], pixels)
    middle = (pixels[:, :-1] + pixels[:, 1:]) / 2
    np.testing.assert_allclose(doubled[::2, 1:-1:2], middle, rtol=1e-6)
    np.testing.assert_array_equal(doubled[-1, -1], pixels[-1, -1])
    colour = jnp.float32([[[[0, 128, 255]]]])
    np.testing.assert_array_equal(INPUT.normalise(colour)[0, 0, 0], [-1, 0, 127 / 128])


def _fid(a, b):
    """The distance by the features themselves: no root of a matrix, which may be singular."""
    centred = [(x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (a, b)]
    overlap = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    variance = sum((x**2).sum() for x in centred)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + variance - 2 * overlap


def test_sets_are_compared_at_every_width(scores):
    reference, generated = scores.collect(PICTURES), scores.collect(iter(GENERATED[:4]))
    results = {score.metric: score for score in scores.compare(reference, generated)}
    assert list(results) == ["fid_64", "fid_192", "fid_768", "fid_2048", "kid"]
    assert {(s.n_reference, s.n_generated) for s in results.values()} == {(5, 4)}
    features = [scores._images(images) for images in (PICTURES, GENERATED[:4])]
    for width in FEATURES:
        expected = _fid(*(x[width].astype(float) for x in features))
        np.testing.assert_allclose(results[f"fid_{width}"].value, expected, rtol=1e-6)
    assert results["kid"].standard_error > 0
    assert results["fid_2048"].standard_error is None
    same = {score.metric: score.value for score in scores.compare(reference, reference)}
    assert max(abs(value) for name, value in same.items() if name != "kid") < 1e-9


def test_without_kid_no_feature_is_kept(scores):
    reference = scores.collect(PICTURES, kid=False)
    assert reference.features is None
    names = [score.metric for score in scores.compare(reference, reference)]
    assert names == ["fid_64", "fid_192", "fid_768", "fid_2048"]


def test_eight_devices_say_what_one_says(file, scores):
    many = InceptionScores.from_pretrained(file, INPUT, batch_size=1)
    assert many.measure == scores.measure
    ours, theirs = many._images(PICTURES), scores._images(PICTURES)
    for width in FEATURES:
        assert relative_error(ours[width], theirs[width]) < 1e-6


def test_the_measure_names_network_weights_and_preprocessing(file, scores):
    name, preprocessing = scores.measure.split(", ", 1)
    assert name.startswith("Inception v3 FID (")
    assert preprocessing == "80x80 bilinear as torch-fidelity"
    other = InceptionScores.from_pretrained(file, InceptionInput("pytorch-fid"))
    assert other.measure == f"{name}, 299x299 bilinear as pytorch-fid"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Conv2d_2b_3x3.conv.weight": None}, "so it is no Inception v3; give pt_inception"),
        ({"Mixed_7c.branch_pool.bn.running_var": None}, "1 missing: Mixed_7c.branch_pool.bn"),
        ({"AuxLogits.fc.bias": "fc.bias"}, r"1 unexpected: AuxLogits\.fc\.bias"),
    ],
)
def test_the_file_of_another_network_is_refused_in_one_line(reference, tmp_path, change, message):
    torch = pytest.importorskip("torch")
    state = dict(reference.state_dict())
    for name, origin in change.items():
        if origin is None:
            del state[name]
        else:
            state[name] = state[origin]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(DataError, match=message) as caught:
        InceptionScores.from_pretrained(tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


def test_the_network_of_imagenet_is_not_taken_for_that_of_fid(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "inception_v3.pth"
    torch.save(_reference(width=WIDTH, classes=1000).state_dict(), path)
    with pytest.raises(DataError, match=r"1000 classes and the network of FID 1008; give pt_"):
        InceptionScores.from_pretrained(path)


def test_other_mistakes_are_said_in_one_line(scores, tmp_path):
    with pytest.raises(DataError, match="nothing to measure"):
        scores.collect([])
    with pytest.raises(DataError, match="two pictures or more in each set, not 1"):
        scores.compare(scores.collect(PICTURES), scores.collect(PICTURES[:1]))
    with pytest.raises(DataError, match="three pictures or more in each set, not 2"):
        scores.compare(scores.collect(PICTURES), scores.collect(PICTURES[:2]))
    with pytest.raises(DataError, match=r"none\.pth does not exist"):
        InceptionScores.from_pretrained(tmp_path / "none.pth")
    with pytest.raises(ConfigError, match="use torch-fidelity or pytorch-fid"):
        InceptionInput("clean-fid")
