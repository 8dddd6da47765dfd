"""A picture and an instruction give the same condition whatever stands beside them."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.devices import DATA_AXIS, batch_mesh
from mre_jax.models.bim import BIM, BIMConfig
from mre_jax.models.clip_vision import CLIPPatchEncoder, CLIPVisionConfig, normalised
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.projector import Projector, ProjectorConfig
from mre_jax.models.qformer import QFormer, QFormerConfig
from mre_jax.models.smartedit_encoder import SmartEditEncoder
from mre_jax.smartedit.instruction_encoder import (
    TEMPLATES_FILE,
    TOKENIZER_FILE,
    InstructionEncoder,
    clip_pixels,
)
from mre_jax.smartedit.prompt import PromptSizes, PromptWriter
from mre_jax.smartedit.reply import ReplySettings
from mre_jax.smartedit.templates import Pair, Templates
from mre_jax.weights.load import load_model
from tests import tiny_smartedit as tiny
from tests.parity import relative_error
from tests.smartedit.speaker import speaker, state_width
from tests.smartedit.tiny_tokenizer import tiny_model, tiny_tokenizer

TEMPLATES = Templates.parse(tiny.TEMPLATES.encode(), "tests")
PATCHES = (tiny.IMAGE_SIZE // tiny.PATCH_SIZE) ** 2
TEXTS, CHANNELS = 77, 16
INSTRUCTIONS = ["make the car red", "a dog", "paint the house blue"]


def tiny_encoder():
    """Its own weights, to be changed."""
    return load_model(tiny.tiny_smartedit()).instruction_encoder


def tiny_files(templates=TEMPLATES):
    own = {} if templates is None else {TEMPLATES_FILE: templates.text.encode()}
    return {TOKENIZER_FILE: tiny_model(), **own}


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
    writer = PromptWriter(tiny_tokenizer(tiny.IMAGE_TOKENS), TEMPLATES, PromptSizes(256, PATCHES))
    prompts = writer.edits(INSTRUCTIONS, INSTRUCTIONS, [0, 0, 0])
    squashed = [
        np.asarray(x.resize((tiny.IMAGE_SIZE,) * 2, Image.Resampling.BICUBIC)) for x in pictures
    ]
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = ((np.stack(squashed) / 255 - mean) / std).astype(np.float32)
    expected = tiny_encoder().features(
        jnp.asarray(prompts.input_ids),
        jnp.asarray(prompts.image_start),
        jnp.asarray(prompts.state_positions),
        jnp.asarray(pixels),
    )
    assert features[0].shape == (3, TEXTS, tiny.WIDTH) and features[1].shape == (3, 4, 4, CHANNELS)
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


def test_weights_that_are_sharded_over_devices_give_the_same(pictures, features):
    """As those of 7 billion parameters are on chips of 16 GB."""
    networks, mesh = tiny_encoder(), batch_mesh(jax.local_devices()[:2])

    def sharded(leaf):
        axis = next((n for n, size in enumerate(leaf.shape) if size % 2 == 0), None)
        spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, DATA_AXIS)
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    nnx.update(networks, jax.tree.map(sharded, nnx.state(networks)))
    kernel = networks.llm.model.layers[0].mlp.up_proj.kernel[...]
    assert kernel.addressable_shards[0].data.size == kernel.size // 2
    encoder = InstructionEncoder(networks, tiny_files())
    for ours, theirs in zip(encoder(pictures[:2], INSTRUCTIONS[:2]), features, strict=True):
        assert relative_error(ours, theirs[:2]) < 1e-5


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
    with pytest.warns(UserWarning, match=r"instruction 'paint paint .* 256 tokens .* fewer words"):
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


SHORT = Templates("s", (Pair("Draw [cap]:", "car is [img]."),))
ITEMS = [f"item {number}" for number in range(6)]


def _speaking(*more):
    """An encoder whose language model says the template's reply, and what it is told besides."""
    tokenizer = tiny_tokenizer(3)
    width = state_width(tokenizer)
    made = {"compute": Compute(), "rngs": make_rngs(0)}
    vision = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=1,
        image_size=4,
        patch_size=2,
    )
    qformer = QFormerConfig(
        query_length=5,
        hidden_size=12,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        encoder_width=width,
    )
    bim = BIMConfig(text_width=12, embedding_dim=8, num_heads=2, mlp_dim=8, out_channels=4)
    given = PromptWriter(tokenizer, SHORT, PromptSizes(48, 4)).edits(["red"], ["red"], [0])
    return SmartEditEncoder(
        speaker(tokenizer, (None, given), *more),
        CLIPPatchEncoder(vision, **made),
        Projector(ProjectorConfig(mm_hidden_size=8, hidden_size=width), **made),
        QFormer(qformer, **made),
        BIM(bim, **made),
    )


def test_a_sampled_reply_that_is_the_templates_gives_its_condition(pictures):
    networks = _speaking()
    options = {"templates": SHORT, "text_tokens": 48}
    forced = InstructionEncoder(networks, tiny_files(None), **options)
    sampling = InstructionEncoder(networks, tiny_files(None), reply=ReplySettings(), **options)
    texts = ["red", "blue house"]
    expected = _arrays(forced(pictures[:2], texts))
    got = _arrays(sampling(pictures[:2], texts, [1, 2], ["a", "b"]))
    for ours, theirs in zip(got, expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5
    assert relative_error(expected[0][0], expected[0][1]) > 1e-5
    replies = sampling.replies
    assert (replies.sampled, replies.retried, replies.teacher_forced) == (2, 0, 0)
    assert sampling.drawn_by(1, "a") == ("1", "a") and forced.drawn_by(1, "a") == ()
    assert sampling.hash == forced.hash


@pytest.mark.filterwarnings("ignore:item item")
def test_seed_and_id_alone_decide_a_sampled_reply(pictures):
    """Half of these replies end too early; which ones, companions and order do not change."""
    tokenizer = tiny_tokenizer(3)
    networks = _speaking((tokenizer.image_ids[0], tokenizer.eos_id, 4.0))

    def counted(rows):
        encoder = InstructionEncoder(
            networks, tiny_files(None), templates=SHORT, text_tokens=48, reply=ReplySettings()
        )
        encoder([pictures[0]] * len(rows), ["red"] * len(rows), [5] * len(rows), rows)
        return encoder.replies.retried, encoder.replies.teacher_forced

    alone = [counted([item]) for item in ITEMS]
    assert counted(ITEMS[::-1]) == tuple(map(sum, zip(*alone, strict=True)))
    assert 0 < sum(retried for retried, _ in alone) < len(ITEMS)
