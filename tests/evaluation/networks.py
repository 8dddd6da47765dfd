"""What stands for CLIP, DINO and Inception: sums of what they are given, so that pairs show."""

import numpy as np

from mre_jax.evaluation.metrics.inception_scores import SetScore
from mre_jax.evaluation.metrics.networks import Networks, NetworkSpec
from mre_jax.evaluation.metrics.preprocess import open_picture


def brightness(picture):
    return float(np.asarray(open_picture(picture), np.float64).mean() / 255)


def use(monkeypatch, **networks):
    """Lets these be the networks of every suite, by the names of `Networks`."""
    monkeypatch.setattr(NetworkSpec, "load", lambda spec: Networks(**networks))


class FakeCLIP:
    measure = "fake CLIP"

    def clip_i(self, generated, targets):
        return [abs(brightness(a) - brightness(b)) for a, b in zip(generated, targets, strict=True)]

    def clip_t(self, generated, captions):
        return [
            brightness(picture) + len(text)
            for picture, text in zip(generated, captions, strict=True)
        ]

    def following(self, edited, instructions):
        return self.clip_t(edited, instructions)

    def preserving(self, originals, edited):
        return self.clip_i(originals, edited)

    def direction(self, originals, edited, before, after):
        pairs = zip(self.clip_i(originals, edited), before, after, strict=True)
        return [value + len(b) - len(a) for value, a, b in pairs]


class FakeDINO:
    measure = "fake DINO"

    def similarity(self, generated, targets):
        return [brightness(a) * brightness(b) for a, b in zip(generated, targets, strict=True)]


class FakeInception:
    measure = "fake Inception"

    def collect(self, pictures, *, kid=True):
        return [brightness(picture) for picture in pictures], kid

    def compare(self, reference, generated):
        (a, kid), (b, _) = reference, generated
        names = ["fid_64", "fid_2048", *(["kid"] if kid else [])]
        return [SetScore(n, abs(np.mean(a) - np.mean(b)), None, len(a), len(b)) for n in names]
