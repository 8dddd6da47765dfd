import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import DataError
from mre_jax.evaluation.metrics.lpips import LPIPS, SqueezeLPIPS
from mre_jax.io.image import to_array
from mre_jax.models.layers import Compute
from tests.evaluation.metric_pictures import pictures
from tests.parity import relative_error, torch_shapes

torch = pytest.importorskip("torch")
from tests.evaluation.metrics import lpips_reference  # noqa: E402

SIZES = [(64, 64), (61, 70), (96, 83)]
"""Of which pools have windows over the border and none."""


@pytest.fixture(scope="module")
def reference():
    return lpips_reference.random_lpips()


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips")
    lpips_reference.write_lpips(path, reference)
    return path


@pytest.fixture(scope="module")
def network(folder):
    return LPIPS.from_pretrained(folder, batch_size=2, devices=jax.devices()[:1])


def pairs(size, count=3):
    """Pairs of pictures in [0, 1], the last one of equal pictures."""
    first, second = (pictures([size] * count, seed=seed) for seed in (0, 1))
    second[-1] = first[-1]
    return (
        np.stack([np.stack([to_array(a), to_array(b)]) for a, b in zip(first, second, strict=True)])
        / 255
    )


def of_torch(reference, given):
    inputs = torch.from_numpy((2 * given.astype(np.float32) - 1).transpose(1, 0, 4, 2, 3).copy())
    with torch.no_grad():
        return reference(*inputs)


@pytest.mark.parametrize("size", SIZES)
def test_distances_are_pytorchs(reference, network, size):
    given = pairs(size)
    theirs, ours = of_torch(reference, given), network.distance(given)
    assert relative_error(ours, theirs) < 1e-5
    assert ours[-1] < 1e-12 and (ours[:-1] > 0.01).all()


def test_every_compared_map_is_pytorchs(reference, network):
    x = np.random.default_rng(0).normal(size=(1, 47, 62, 3)).astype(np.float32)
    ours = network._loaded.model.maps(jnp.asarray(x))
    theirs, start = torch.from_numpy(x.transpose(0, 3, 1, 2)), 0
    for found, end in zip(ours, lpips_reference._CUTS, strict=True):
        theirs, start = reference.features[start:end](theirs), end
        assert relative_error(found, theirs.detach().permute(0, 2, 3, 1)) < 1e-5


def test_the_network_has_the_published_size():
    shapes = torch_shapes(nnx.eval_shape(lambda: SqueezeLPIPS(compute=Compute(), rngs=nnx.Rngs(0))))
    features = [np.prod(shape) for name, shape in shapes.items() if name.startswith("features.")]
    # torchvision's squeezenet1_1 without its classifier of 512 to 1000, and one weight a channel.
    assert sum(features) == 1_235_496 - 513_000
    assert sum(map(np.prod, shapes.values())) == sum(features) + 64 + 128 + 256 + 2 * 384 + 2 * 512


def test_distances_are_torchmetrics(reference, network):
    lpips = pytest.importorskip("torchmetrics.functional.image.lpips")
    pytest.importorskip("torchvision")
    theirs = lpips._LPIPS(net="squeeze", pnet_rand=True, pretrained=False)
    state = reference.state_dict()
    for name in theirs.state_dict():
        ours = name.replace("lins.", "lin")
        if ours.startswith("net."):
            ours = f"features.{ours.split('.', 3)[3]}"
        theirs.state_dict()[name].copy_(state[ours])
    given = pairs(SIZES[0])
    assert relative_error(network.distance(given), of_torch(theirs, given).flatten()) < 1e-5


@pytest.mark.parametrize("slices", ["net.slices.0.", "net.slice1."])
def test_one_file_of_the_whole_network_is_read(reference, network, folder, tmp_path, slices):
    whole = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    for name, tensor in reference.state_dict().items():
        place, _, rest = name.partition(".")
        whole[f"{slices}{rest}" if place == "features" else name] = tensor
        if place != "features":
            whole[f"lins.{place[3:]}.{rest}"] = tensor
    torch.save(whole, tmp_path / "lpips.pth")
    read = LPIPS.from_pretrained(tmp_path / "lpips.pth", batch_size=2, devices=jax.devices()[:1])
    given = pairs(SIZES[0])
    np.testing.assert_array_equal(read.distance(given), network.distance(given))
    assert read.measure.startswith("LPIPS SqueezeNet (") and "[-1, 1]" in read.measure


def test_a_missing_file_is_named(folder, tmp_path):
    (tmp_path / "squeeze.pth").write_bytes((folder / "squeeze.pth").read_bytes())
    with pytest.raises(DataError, match=r"0 files squeezenet1_1\* in it; want one, torchvision's"):
        LPIPS.from_pretrained(tmp_path)
    with pytest.raises(DataError, match="missing"):
        LPIPS.from_pretrained(tmp_path / "squeeze.pth")
