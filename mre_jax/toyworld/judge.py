"""The exact judges: what an edited image is worth in following, preserving and quality.

Unlike a language model they know the ideal target. With S the source, T the target and Y the
candidate, all in [0, 1], box the 3 x 3 mean, M the pixels where S and T differ, grown by one, and K
the others:

    following   d_Y = box(Y - S) and d_T = box(T - S) on M,
                a = <d_Y, d_T> / |d_T|^2, r = |d_Y - a d_T| / |d_T|,
                5 clip(1 - |1 - a| - max(r - 0.2, 0) / 2): how far the way from S to T was gone,
                less what was done beside it
    preserving  e = root mean square of box(Y - S) on K,
                5 clip(1 - max(e - 0.35 n - 0.002, 0) / 0.25), n of the next line: noise is no
                matter of preserving
    quality     n = max(rough(Y) - max(rough(S), rough(T)) - 0.002, 0),
                b = sharp(Y) / min(sharp(S), sharp(T)),
                5 clip(1 - n / 0.1 - 0.8 max(0.85 - b, 0))

    rough(x)    mean over pixels of the smaller of |x_hh| / 2 and |x_vv| / 2, the second differences
                along rows and along columns: zero on ramps and straight edges, large for noise
    sharp(x)    (mean |x - box(x)| + 1e-4) / (mean |box(x) - box(box(x))| + 5e-4)

An edit of the whole image (Global, Style) leaves no K. Its following compares the sorted values of
each channel of box(Y), box(S) and box(T), which do not see where things are; its preserving is
5 |cos| of the luminance gradients of Y with those of S or of T, the better one, in thumbnails of
16 pixels, which do not see colours.

Quality is relative to both S and T and contrast cancels in `sharp`, so that a target which is flat
(the last object removed), pale (fog) or full of hard steps (poster) loses nothing by being so.
"""

import numpy as np
from einops import rearrange, reduce
from jaxtyping import Bool, Float

from mre_jax.errors import DataError
from mre_jax.toyworld.edits import KEEP, Edits, apply
from mre_jax.toyworld.scene import Scenes, luminance, render

Images = Float[np.ndarray, "b H W 3"]
Share = Float[np.ndarray, "b"]  # of the full score; 1 and more is 5, 0 and less is 0


def score(scenes: Scenes, edits: Edits, candidates: Images) -> Float[np.ndarray, "b 3"]:
    """Judge candidates for edits of known scenes.

    Args:
        scenes: the source scenes.
        edits: what was asked for.
        candidates: the edited images in [0, 1], square, of any size.

    Returns:
        Following, preserving and quality, each from 0 to 5.

    Raises:
        DataError: the candidates are not square, as the pictures of scenes are.
    """
    size, width = candidates.shape[1:3]
    if size != width:
        raise DataError(f"a candidate is {width} x {size} pixels; pictures of scenes are square")
    source, target = render(scenes, size), render(apply(scenes, edits), size)
    return judge(source, target, candidates.astype(np.float32), edits.look != KEEP)


def judge(
    source: Images, target: Images, candidate: Images, whole: Bool[np.ndarray, "b"]
) -> Float[np.ndarray, "b 3"]:
    """Judge images by the formulas above; `whole` marks the edits of the whole image."""
    excess = _rough(candidate) - np.maximum(_rough(source), _rough(target))
    noise = np.maximum(excess - 0.002, 0)
    shares = np.empty((2, len(whole)))
    for rows, compare in (
        (np.flatnonzero(~whole), _compare_region),
        (np.flatnonzero(whole), _compare_whole),
    ):
        if len(rows):
            shares[:, rows] = compare(source[rows], target[rows], candidate[rows], noise[rows])
    blur = _sharp(candidate) / np.minimum(_sharp(source), _sharp(target))
    quality = 1 - noise / 0.1 - 0.8 * np.maximum(0.85 - blur, 0)
    return 5 * np.clip(np.stack([*shares, quality], 1), 0, 1)


def changed(source: Images, target: Images) -> Bool[np.ndarray, "b H W 1"]:
    """The pixels where the images differ, grown by one."""
    return grow(np.any(abs(source - target) > 1e-3, axis=-1, keepdims=True))


def grow(mask: Bool[np.ndarray, "b H W 1"]) -> Bool[np.ndarray, "b H W 1"]:
    """The mask and its eight-connected neighbours."""
    return box(mask.astype(np.float32)) > 0


def box(x: Float[np.ndarray, "b H W c"]) -> Float[np.ndarray, "b H W c"]:
    """The mean over 3 x 3 pixels; the border is repeated."""
    x = np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), "edge")
    x = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)), "edge")
    return (x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]) / np.float32(9)


def _compare_region(
    source: Images, target: Images, candidate: Images, noise: Share
) -> tuple[Share, Share]:
    """Following and preserving of an edit that leaves a part of the image alone."""
    region = changed(source, target)
    done, asked = box(candidate - source), box(target - source)
    stray = (done * ~region).reshape(len(done), -1)
    mean_square = _dot(stray, stray) / np.maximum(3 * (~region).sum((1, 2, 3)), 1)
    loss = np.maximum(np.sqrt(mean_square) - 0.35 * noise - 0.002, 0) / 0.25
    return _progress(done * region, asked * region), 1 - loss


def _compare_whole(
    source: Images, target: Images, candidate: Images, noise: Share
) -> tuple[Share, Share]:
    """Following and preserving of an edit of the whole image; noise hardly touches either."""
    smooth = [box(x) for x in (source, target, candidate)]
    s, t, y = (np.sort(rearrange(x, "b h w c -> b (h w) c"), axis=1) for x in smooth)
    grad_s, grad_t, grad_y = (_gradients(x) for x in smooth)
    structure = np.maximum(_cosine(grad_y, grad_s), _cosine(grad_y, grad_t))
    return _progress(y - s, t - s), structure


def _progress(done: Float[np.ndarray, "b ..."], asked: Float[np.ndarray, "b ..."]) -> Share:
    """How far `done` goes along `asked`, less what it does beside it: the formula's a and r."""
    done, asked = done.reshape(len(done), -1), asked.reshape(len(asked), -1)
    length = _dot(asked, asked)
    part = _dot(done, asked) / length
    beside = done - part[:, None] * asked
    excess = np.maximum(np.sqrt(_dot(beside, beside) / length) - 0.2, 0)
    return 1 - abs(1 - part) - excess / 2


def _gradients(x: Images) -> Float[np.ndarray, "b n"]:
    """Luminance gradients of a thumbnail of about 16 pixels, all in one vector."""
    step = max(1, x.shape[1] // 16)
    size = x.shape[1] // step
    whole = x[:, : size * step, : size * step]
    small = luminance(reduce(whole, "b (h s) (w t) c -> b h w c", "mean", s=step, t=step))
    down, right = np.diff(small, axis=1), np.diff(small, axis=2)
    return np.concatenate([down.reshape(len(x), -1), right.reshape(len(x), -1)], axis=1)


def _cosine(x: Float[np.ndarray, "b n"], y: Float[np.ndarray, "b n"]) -> Share:
    return abs(_dot(x, y)) / np.maximum(np.sqrt(_dot(x, x) * _dot(y, y)), 1e-9)


def _dot(x: Float[np.ndarray, "b n"], y: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b"]:
    return np.einsum("bn,bn->b", x, y)


def _rough(x: Images) -> Share:
    inner = x[:, 1:-1, 1:-1]
    across = abs(inner - (x[:, 1:-1, 2:] + x[:, 1:-1, :-2]) / 2)
    down = abs(inner - (x[:, 2:, 1:-1] + x[:, :-2, 1:-1]) / 2)
    return np.minimum(across, down).mean((1, 2, 3))


def _sharp(x: Images) -> Share:
    once = box(x)
    fine, coarse = abs(x - once).mean((1, 2, 3)), abs(once - box(once)).mean((1, 2, 3))
    return (fine + 1e-4) / (coarse + 5e-4)  # 0.2, unsharp, for a flat image
