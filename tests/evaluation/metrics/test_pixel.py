import numpy as np
import pytest
from PIL import Image

from mre_jax.errors import DataError
from mre_jax.evaluation.metrics import pixel
from mre_jax.evaluation.metrics.pixel import read_masks

RNG = np.random.default_rng(0)
TARGET = RNG.integers(0, 256, (3, 24, 31, 3), np.uint8)
# The first differs a little, the second much, the third not at all.
GENERATED = TARGET.copy()
GENERATED[0] = np.clip(GENERATED[0].astype(int) + RNG.integers(-20, 21, (24, 31, 3)), 0, 255)
GENERATED[1] = RNG.integers(0, 256, (24, 31, 3))
MASK = np.zeros((3, 24, 31), bool)
MASK[:, 2:6, 20:29] = True


def _skimage():
    return pytest.importorskip("skimage.metrics")


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_every_metric_is_that_of_scikit_image(kind):
    reference = _skimage()
    a, b = GENERATED, TARGET
    if kind is np.float32:
        a, b = (x.astype(np.float32) / np.float32(255) for x in (a, b))
    x, y = GENERATED / 255, TARGET / 255
    ssim = [
        reference.structural_similarity(
            i, j, channel_axis=2, data_range=1, gaussian_weights=True, use_sample_covariance=False
        )
        for i, j in zip(x, y, strict=True)
    ]
    mse = [reference.mean_squared_error(i, j) for i, j in zip(x, y, strict=True)]
    psnr = [reference.peak_signal_noise_ratio(y[k], x[k], data_range=1) for k in range(2)]
    np.testing.assert_allclose(pixel.l1(a, b), np.abs(x - y).mean((1, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(pixel.l2(a, b), mse, atol=1e-6)
    np.testing.assert_allclose(pixel.psnr(a, b), [*psnr, pixel.HIGHEST_PSNR], atol=1e-5)
    np.testing.assert_allclose(pixel.ssim(a, b), ssim, atol=1e-6)


def test_outside_the_mask_is_what_scikit_image_measures_there():
    reference = _skimage()
    inside = GENERATED.copy()
    inside[:2][MASK[:2]] = 255 - TARGET[:2][MASK[:2]]
    x, y = inside / 255, TARGET / 255
    for k in range(3):
        difference = (x[k] - y[k])[~MASK[k]]
        one = slice(k, k + 1)
        arguments = inside[one], TARGET[one], MASK[one]
        np.testing.assert_allclose(pixel.l1(*arguments), np.abs(difference).mean(), atol=1e-6)
        np.testing.assert_allclose(pixel.l2(*arguments), (difference**2).mean(), atol=1e-6)
        _, full = reference.structural_similarity(
            x[k],
            y[k],
            channel_axis=2,
            data_range=1,
            gaussian_weights=True,
            use_sample_covariance=False,
            full=True,
        )
        # The windows of 11x11 around the rectangle 2:6, 20:29, and those over the border.
        untouched = np.zeros((24, 31), bool)
        untouched[5:-5, 5:-5] = True
        untouched[:11, 15:] = False
        np.testing.assert_allclose(pixel.ssim(*arguments), full[untouched].mean(), atol=1e-6)


@pytest.mark.parametrize("name", pixel.METRICS)
def test_what_happens_in_the_mask_changes_nothing(name):
    metric = pixel.METRICS[name]
    other = GENERATED.copy()
    other[MASK] = 255 - other[MASK]
    np.testing.assert_array_equal(
        metric(GENERATED, TARGET, MASK), metric(other, TARGET, MASK), strict=True
    )
    assert (metric(GENERATED[:2], TARGET[:2]) != metric(other[:2], TARGET[:2])).all()


def test_a_pair_is_measured_at_the_size_of_its_target():
    target = Image.fromarray(TARGET[0])
    generated = Image.fromarray(GENERATED[1]).resize((60, 50))
    resized = np.asarray(generated.resize((31, 24), Image.Resampling.BICUBIC))[None]
    values = pixel.measure_pair(generated, target, MASK[0])
    assert values.keys() == {"l1", "l2", "psnr", "ssim"}
    for name, value in values.items():
        assert value == pixel.METRICS[name](resized, TARGET[:1], MASK[:1])[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pixel.l1(TARGET, TARGET[:, :20]), r"24x31x3.*20x31x3.*match_size"),
        (lambda: pixel.l2(TARGET.astype(float), TARGET.astype(float)), "divide by 255"),
        (lambda: pixel.l1(TARGET / 255, TARGET * np.nan), "divide by 255"),
        (lambda: pixel.ssim(TARGET[:, :10], TARGET[:, :10]), "11 pixels or more, not 10x31x3"),
        (lambda: pixel.l1(TARGET, TARGET, MASK[:, :9]), "boolean and of the pictures' size"),
        (lambda: pixel.ssim(TARGET, TARGET, MASK * 1), "boolean"),
        (lambda: pixel.psnr(TARGET, TARGET, MASK | True), "picture 0 .* leaves nothing"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(call, message):
    with pytest.raises(DataError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.fixture
def write(tmp_path):
    def write(pixels, name="mask.png"):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(tmp_path / name)
        return tmp_path / name

    return write


def test_the_hole_of_a_picture_is_what_was_to_be_edited(write):
    white, clear = (255, 255, 255, 255), (255, 255, 255, 0)
    mask = write([[white, clear], [white, white]])
    assert read_masks([mask], (2, 2)).tolist() == [[False, True], [False, False]]
    assert read_masks([mask], (4, 2)).tolist() == [[False, False, True, True], [False] * 4]


def test_without_transparency_it_is_what_is_white(write):
    grey = write([[0, 255], [249, 250]])
    assert read_masks([grey], (2, 2)).tolist() == [[False, True], [False, True]]
    opaque = write([[(9, 9, 9, 255), (255, 255, 255, 255)]])
    assert read_masks([opaque], (2, 1)).tolist() == [[False, True]]


def test_several_masks_add_up_and_none_hides_nothing(write):
    one, other = write([[0, 255]], "one.png"), write([[255, 0]], "other.png")
    assert read_masks([one, other], (2, 1)).all()
    assert not read_masks([], (2, 1)).any()


def test_what_is_no_mask_is_named(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"mask\.png: not a picture"):
        read_masks([tmp_path / "mask.png"], (2, 2))
