import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.metrics.clip_scores import CLIPScores
from tests.evaluation.metric_pictures import pictures
from tests.evaluation.tiny_networks import write_clip
from tests.parity import relative_error

PICTURES = pictures([(40, 40), (64, 48), (33, 50), (32, 32), (96, 64)])
EDITED = pictures([(40, 40), (64, 48), (33, 50), (32, 32), (96, 64)], seed=1)
TEXTS = ["a cab", "make a bad dog", "fog", "a hippo on a rock", "a cab"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A tiny CLIP of transformers with random weights, and its folder."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    return write_clip(folder), folder


@pytest.fixture(scope="module")
def scores(reference):
    return CLIPScores.from_pretrained(reference[1], batch_size=2, devices=jax.devices()[:1])


@pytest.fixture
def copy(reference, tmp_path):
    """The folder, to be changed."""
    return shutil.copytree(reference[1], tmp_path / "copy")


def _unit(features):
    return features / features.norm(dim=-1, keepdim=True)


def _image_features(reference, images):
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessorPil.from_pretrained(reference[1])
    # One by one, so that nothing depends on how a batch is put together.
    pixels = [processor(image, return_tensors="pt")["pixel_values"] for image in images]
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return _unit(reference[0].get_image_features(torch.cat(pixels)).pooler_output)


def _text_features(reference, texts):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(reference[1])
    tokens = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        return _unit(reference[0].get_text_features(**tokens).pooler_output)


def test_every_score_is_that_of_transformers(reference, scores):
    torch = pytest.importorskip("torch")
    before, after = _image_features(reference, PICTURES), _image_features(reference, EDITED)
    texts, others = _text_features(reference, TEXTS), _text_features(reference, TEXTS[::-1])
    assert relative_error(scores.image_features(PICTURES), before) < 1e-5
    assert relative_error(scores.text_features(TEXTS), texts) < 1e-5
    cosine = torch.nn.functional.cosine_similarity
    expected = {
        "clip_i": cosine(before, after),
        "clip_t": cosine(after, texts),
        "direction": cosine(after - before, others - texts),
    }
    ours = {
        "clip_i": scores.clip_i(EDITED, PICTURES),
        "clip_t": scores.clip_t(EDITED, TEXTS),
        "direction": scores.direction(PICTURES, EDITED, TEXTS, TEXTS[::-1]),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(scores.following(EDITED, TEXTS), ours["clip_t"])
    np.testing.assert_array_equal(scores.preserving(PICTURES, EDITED), ours["clip_i"])
    # The third text is its own opposite in the list above: nothing moved, and that is no NaN.
    assert ours["direction"][2] == 0


def test_eight_devices_say_what_one_says(reference, scores):
    many = CLIPScores.from_pretrained(reference[1], batch_size=2)
    assert len(jax.local_devices()) == 8
    assert many.measure == scores.measure
    for method, items in (("image_features", PICTURES), ("text_features", TEXTS)):
        ours, theirs = (getattr(clip, method)(items) for clip in (many, scores))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_layout_of_older_folders_gives_the_same_scores(reference, scores, copy):
    torch = pytest.importorskip("torch")
    weights = dict(reference[0].state_dict())
    weights["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    weights["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    torch.save(weights, copy / "pytorch_model.bin")
    for name in ("model.safetensors", "tokenizer_config.json", "preprocessor_config.json"):
        (copy / name).unlink()
    old = CLIPScores.from_pretrained(copy, batch_size=2, devices=jax.devices()[:1])
    assert old.measure == scores.measure
    np.testing.assert_array_equal(old.clip_t(PICTURES, TEXTS), scores.clip_t(PICTURES, TEXTS))


def test_the_measure_names_network_weights_and_preprocessing(reference, scores, copy):
    torch = pytest.importorskip("torch")
    name, preprocessing = scores.measure.split(", ", 1)
    assert name.startswith("CLIP ViT-32/8 (")
    assert preprocessing == "shorter side 32 bicubic, crop 32"
    weights = dict(reference[0].state_dict())
    weights["visual_projection.weight"] = weights["visual_projection.weight"] * 1.5
    torch.save(weights, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert CLIPScores.from_pretrained(copy).measure != scores.measure


def _without(*names):
    def change(folder):
        for name in names:
            (folder / name).unlink()

    return change


def _with_json(name, **entries):
    def change(folder):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_without("config.json"), DataError, r"config\.json: no such file"),
        (_without("model.safetensors"), DataError, r"no weights: expected .*pytorch_model\.bin"),
        (_without("vocab.json", "merges.txt"), DataError, r"vocab\.json and merges\.txt"),
        (_with_json("config.json", model_type="siglip"), ConfigError, "model_type 'siglip'"),
        (_with_json("config.json", projection_dim=12), DataError, "does not fit.*text_projection"),
        (
            _with_json("preprocessor_config.json", image_mean=[0.5] * 3),
            ConfigError,
            r"image_mean \[0.5, 0.5, 0.5\] is not supported",
        ),
        (
            _with_json("preprocessor_config.json", size={"height": 32, "width": 32}),
            ConfigError,
            "size .* must be {'shortest_edge': 32}",
        ),
    ],
)
def test_a_folder_that_cannot_serve_is_refused_in_one_line(copy, change, error, message):
    change(copy)
    with pytest.raises(error, match=message) as caught:
        CLIPScores.from_pretrained(copy)
    assert "\n" not in str(caught.value)


def test_lists_of_different_lengths_and_empty_ones_are_refused(scores):
    with pytest.raises(DataError, match="2 cannot be compared with 1"):
        scores.clip_i(PICTURES[:2], PICTURES[:1])
    with pytest.raises(DataError, match="1 cannot be compared with 2"):
        scores.direction(PICTURES[:2], PICTURES[:1], TEXTS[:2], TEXTS[:2])
    with pytest.raises(DataError, match="nothing to measure"):
        scores.text_features([])


def test_a_text_that_is_too_long_is_cut_with_a_warning(scores):
    with pytest.warns(UserWarning, match="42 tokens, 16 fit"):
        features = scores.text_features(["a" * 40])
    assert features.shape == (1, 24)
    assert np.isfinite(scores.image_features([Image.new("RGB", (3, 300))])).all()
