import numpy as np
import pytest
from PIL import Image

from mre_jax.errors import DataError
from mre_jax.evaluation.metrics.masked import (
    SIDE,
    check_mask,
    crop_to_mask,
    mask_box,
    masked_pair,
    masked_values,
    read_mask,
)
from tests.evaluation.metric_pictures import pictures
from tests.evaluation.reason_edit import write_mask

torch = pytest.importorskip("torch")


@pytest.fixture
def triple(tmp_path):
    """An edit of another size than its original, and a mask with grey at its edges."""
    edited, original = pictures([(90, 70), (64, 48)])
    paths = [tmp_path / name for name in ("edited.png", "original.png", "mask.jpg")]
    edited.save(paths[0])
    original.save(paths[1])
    write_mask(paths[2], (64, 48), (10, 8, 40, 30))
    return tuple(paths)


def official(triple):
    """The two masked pictures [1 3 256 256] in float32, as the authors' script makes them."""
    edited, original, mask = (Image.open(path) for path in triple)
    kept = 1 - np.asarray(mask.convert("L").resize((256, 256), Image.NEAREST), np.int64) / 255
    for picture in (edited, original):
        square = picture.convert("RGB").resize((256, 256), Image.BICUBIC)
        masked = np.asarray(square).astype(np.float32) / 255 * kept[..., None].astype(np.float32)
        yield torch.from_numpy(masked).permute(2, 0, 1)[None].contiguous()


def ssim(x, y, *, reflected):
    """torchmetrics' with its defaults, in float64: inside the picture, or over its borders too."""
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    line = torch.exp(-((offsets / 1.5) ** 2) / 2)
    line = line / line.sum()
    kernel = (line[:, None] * line).expand(3, 1, 11, 11)
    if reflected:
        x, y = (torch.nn.functional.pad(z, (5, 5, 5, 5), mode="reflect") for z in (x, y))

    def mean(z):
        return torch.nn.functional.conv2d(z, kernel, groups=3)

    a, b = mean(x), mean(y)
    covariance = mean(x * y) - a * b
    variances = mean(x * x) - a**2 + mean(y * y) - b**2
    c1, c2 = 0.01**2, 0.03**2
    whole = (2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (variances + c2))
    return whole.mean()


def test_the_masked_pictures_are_the_scripts(triple):
    ours = masked_pair(*triple)
    assert ours.shape == (2, SIDE, SIDE, 3)
    theirs = torch.cat(list(official(triple))).permute(0, 2, 3, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-7)
    grey = read_mask(triple[2])
    assert ((grey > 0) & (grey < 255)).any()  # which counts in part


def test_every_value_is_pytorchs(triple):
    x, y = (picture.double() for picture in official(triple))
    mse = ((x - y) ** 2).mean()
    (ours,) = masked_values([triple])
    assert ours == pytest.approx(
        {"psnr_masked": float(-10 * torch.log10(mse)), "mse_masked": float(mse),
         "ssim_masked": float(ssim(x, y, reflected=False))}, rel=1e-6
    )  # fmt: skip


def test_every_value_is_torchmetrics(triple):
    torchmetrics = pytest.importorskip("torchmetrics")
    x, y = official(triple)
    version = tuple(int(part) for part in torchmetrics.__version__.split(".")[:2])
    theirs = {
        "psnr_masked": torchmetrics.image.PeakSignalNoiseRatio(data_range=1.0)(x, y),
        "mse_masked": torchmetrics.regression.MeanSquaredError()(x, y),
        "ssim_masked": torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=1.0)(
            x.double(),
            y.double(),  # whose variances lose digits in float32
        ),
    }
    (ours,) = masked_values([triple])
    if version >= (1, 5):
        theirs["ssim_masked"] += ours["ssim_masked"] - ssim(x.double(), y.double(), reflected=True)
    assert ours == pytest.approx({k: float(v) for k, v in theirs.items()}, rel=1e-5)


def test_the_box_is_the_scripts(triple):
    y, x = np.where(np.asarray(Image.open(triple[2]).resize((256, 256), Image.NEAREST)))
    box = (x.min(), y.min(), x.max(), y.max())
    assert mask_box(triple[2]) == box
    # JPEG's traces lie outside of the rectangle 40..160, 42..160 of 256.
    assert box[0] <= 40 and box[1] <= 44 and box[2] >= 163 and box[3] >= 164
    crop = crop_to_mask(triple[0], triple[2])
    square = Image.open(triple[0]).resize((256, 256), Image.BICUBIC)
    np.testing.assert_array_equal(crop, square.crop(box))


def test_equal_pictures_have_the_highest_psnr(triple):
    _, original, mask = triple
    assert masked_values([(original, original, mask)]) == [
        {"psnr_masked": 100.0, "ssim_masked": pytest.approx(1), "mse_masked": 0.0}
    ]


def test_a_mask_lies_over_its_picture(triple, tmp_path):
    _, original, mask = triple
    check_mask(mask, original)
    twice = tmp_path / "twice.jpg"
    write_mask(twice, (128, 97), (20, 16, 80, 60))
    check_mask(twice, original)
    write_mask(twice, (64, 64))
    with pytest.raises(DataError, match=r"twice.jpg: 64x64, but original.png is 64x48; make it"):
        check_mask(twice, original)
    Image.new("L", (64, 48)).save(twice)
    with pytest.raises(DataError, match=r"twice.jpg: less than two rows .* paint what"):
        check_mask(twice, original)
