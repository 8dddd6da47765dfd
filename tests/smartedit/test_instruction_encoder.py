"""A picture and an instruction give the same condition whatever stands beside them."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.devices import batch_mesh
from mre_jax.models.clip_vision import normalised
from mre_jax.smartedit.instruction_encoder import (
    TEMPLATES_FILE,
    TOKENIZER_FILE,
    InstructionEncoder,
    clip_pixels,
)
from mre_jax.smartedit.prompt import PromptSizes, PromptWriter
from mre_jax.smartedit.templates import Pair, Templates
from tests.parity import relative_error
from tests.smartedit.tiny_encoder import (
    CHANNELS,
    IMAGE_TOKENS,
    PATCHES,
    SIDE,
    TEMPLATES,
    TEXTS,
    tiny_encoder,
    tiny_files,
)
from tests.smartedit.tiny_tokenizer import tiny_tokenizer

INSTRUCTIONS = ["make the car red", "a dog", "paint the house blue"]


@pytest.fixture(scope="module")
def encoder():
    return InstructionEncoder(tiny_encoder(), tiny_files())


@pytest.fixture(scope="module")
def pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    return [Image.fromarray(one) for one in pixels]


@pytest.fixture(scope="module")
def features(encoder, pictures):
    return _arrays(encoder(pictures, INSTRUCTIONS))


def _arrays(features):
    return [np.asarray(part) for part in features]


def _equal(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_condition_is_the_encoders_of_the_prompt(encoder, pictures, features):
    writer = PromptWriter(tiny_tokenizer(IMAGE_TOKENS), TEMPLATES, PromptSizes(244, PATCHES))
    prompts = writer.edits(INSTRUCTIONS, INSTRUCTIONS, [0, 0, 0])
    squashed = [np.asarray(x.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for x in pictures]
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = ((np.stack(squashed) / 255 - mean) / std).astype(np.float32)
    expected = tiny_encoder().features(
        jnp.asarray(prompts.input_ids),
        jnp.asarray(prompts.image_start),
        jnp.asarray(prompts.state_positions),
        jnp.asarray(pixels),
    )
    assert features[0].shape == (3, TEXTS, 12) and features[1].shape == (3, 4, 4, CHANNELS)
    for ours, theirs in zip(features, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-5
    assert relative_error(features[0][0], features[0][1]) > 1e-3


def test_bits_depend_on_neither_batch_order_nor_companions(encoder, pictures, features):
    backwards = encoder(pictures[::-1], INSTRUCTIONS[::-1])
    assert _equal([part[::-1] for part in _arrays(backwards)], features)
    for row in range(3):
        alone = encoder(pictures[row : row + 1], INSTRUCTIONS[row : row + 1])
        assert _equal(_arrays(alone), [part[row : row + 1] for part in features])
    others = encoder([pictures[1], pictures[0]], ["x" * 40, INSTRUCTIONS[0]])
    assert _equal([part[1] for part in _arrays(others)], [part[0] for part in features])


def test_devices_that_share_the_pictures_give_those_of_one(pictures, features):
    mesh = batch_mesh(jax.local_devices()[:2])
    encoder = InstructionEncoder(tiny_encoder(), tiny_files(), mesh=mesh)
    assert _equal(_arrays(encoder(pictures, INSTRUCTIONS)), features)


def test_picture_and_instruction_both_count(encoder, pictures, features):
    for images, instruction in (([pictures[1]], INSTRUCTIONS[0]), ([pictures[0]], "a cat")):
        other = _arrays(encoder(images, [instruction]))
        for ours, theirs in zip(other, features, strict=True):
            assert relative_error(ours[0], theirs[0]) > 1e-4


def test_weights_that_were_changed_are_seen(pictures, features):
    encoder = InstructionEncoder(tiny_encoder(), tiny_files())
    encoder.encoder.bim.dimension_reduction_head_zeroconv.bias[...] += 1
    text, image = _arrays(encoder(pictures, INSTRUCTIONS))
    assert np.array_equal(text, features[0])
    assert relative_error(image - 1, features[1]) < 1e-5


def test_line_breaks_are_taken_out_and_no_instruction_is_one_too(encoder):
    prompts = encoder.prompts(["paint the \nhouse", ""])
    broken, empty = map(encoder.tokenizer.decode, prompts.input_ids)
    assert "paint the house" in broken and "\n" not in broken
    assert "<im_end>" in empty and not prompts.too_long.any()
    assert (prompts.state_positions > 0).all()


def test_an_instruction_beyond_the_window_is_left_out_and_said(encoder, pictures):
    long = "paint " * 100
    assert encoder.prompts([long, "a"]).too_long.tolist() == [True, False]
    with pytest.warns(UserWarning, match=r"instruction 'paint paint .* 244 tokens .* fewer words"):
        cut = encoder(pictures[:1], [long])
    assert np.isfinite(np.asarray(cut.text_states)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder(pictures[:1], ["a"])


@pytest.mark.parametrize("text", ["make <img_2> red", "a </s>", "\ud800"])
def test_an_instruction_that_would_be_read_as_tokens_is_refused(encoder, pictures, text):
    with pytest.raises(DataError):
        encoder(pictures[:1], [text])


def test_the_template_is_the_instructions_own(encoder):
    prompts = encoder.prompts(INSTRUCTIONS)
    for row, text in enumerate(INSTRUCTIONS):
        words = encoder.tokenizer.decode(prompts.input_ids[row])
        human, other = encoder.templates.pair(0, text).human, encoder.templates.pairs
        assert human.partition("[cap]")[0].strip() in words
        assert sum(pair.human.partition("[cap]")[0].strip() in words for pair in other) == 1


def test_pictures_are_squashed_and_not_cut():
    wide = Image.new("RGB", (64, 16), "black")
    wide.paste("white", (32, 0, 64, 16))
    (pixels,) = clip_pixels([wide], 16)
    assert pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8
    assert (pixels[:, :6] == 0).all() and (pixels[:, 10:] == 255).all()
    white = normalised(jnp.asarray(pixels[:1, 15:]))
    assert relative_error(white[0, 0], [1.9303361, 2.0748837, 2.1459]) < 1e-4


def test_the_hash_tells_tokenizers_templates_and_windows_apart(encoder):
    def hashed(files, **options):
        return InstructionEncoder(encoder.encoder, files, **options).hash

    other = Templates(TEMPLATES.system, TEMPLATES.pairs[:1])
    assert hashed(tiny_files()) == encoder.hash
    assert hashed(tiny_files(None), templates=TEMPLATES) == encoder.hash
    different = [
        hashed(tiny_files(other)),
        hashed(tiny_files(), templates=other),
        hashed(tiny_files(None)),
        hashed(tiny_files(), text_tokens=100),
    ]
    assert different[0] == different[1]
    assert len({encoder.hash, *different}) == 4


def test_templates_are_the_folders_own_unless_others_are_given(encoder):
    assert encoder.templates == TEMPLATES
    own = InstructionEncoder(encoder.encoder, tiny_files(None))
    assert own.templates == Templates.default()
    given = Templates("s", (Pair("[cap]", "y [img]."),))
    assert InstructionEncoder(encoder.encoder, tiny_files(), templates=given).templates == given


def test_what_is_missing_or_another_networks_is_refused(encoder):
    files = tiny_files()
    with pytest.raises(DataError, match=r"the model has no llm_tokenizer/tokenizer\.model; put"):
        InstructionEncoder(encoder.encoder, {})
    with pytest.raises(DataError, match=r"llm_tokenizer/tokenizer\.model of X is no Sentence"):
        InstructionEncoder(encoder.encoder, files | {TOKENIZER_FILE: b"x"}, name="X")
    with pytest.raises(DataError, match=r"llm_tokenizer/templates\.txt of X, line 1"):
        InstructionEncoder(encoder.encoder, files | {TEMPLATES_FILE: b"x"}, name="X")


@pytest.mark.parametrize("vocabulary", [32035, 20])
def test_a_vocabulary_of_another_tokenizer_is_refused(encoder, monkeypatch, vocabulary):
    """The release's is 32000 pieces and 35 tokens; of a smaller network the number is its own."""
    config = dataclasses.replace(encoder.encoder.llm.config, vocab_size=vocabulary)
    monkeypatch.setattr(encoder.encoder.llm, "config", config)
    with pytest.raises(ConfigError, match=f"vocab_size {vocabulary} is not the tokenizer's"):
        InstructionEncoder(encoder.encoder, tiny_files())


def test_a_network_of_the_releases_size_without_templates_warns(monkeypatch):
    monkeypatch.setattr(
        "mre_jax.smartedit.instruction_encoder._RELEASED_VOCABULARY",
        tiny_tokenizer(32).size,
    )
    encoder = tiny_encoder()
    config = dataclasses.replace(encoder.llm.config, vocab_size=tiny_tokenizer(32).size)
    monkeypatch.setattr(encoder.llm, "config", config)
    with pytest.warns(UserWarning, match=r"smart was trained with the official .* --templates"):
        InstructionEncoder(encoder, tiny_files(None), name="smart")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InstructionEncoder(encoder, tiny_files())
