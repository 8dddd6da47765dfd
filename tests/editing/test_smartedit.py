"""SmartEdit in the same pipeline: the pictures of a PyTorch composition, beside any companions."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from mre_jax.diffusion.noise import initial_latents, item_keys, step_noise  # noqa: E402
from mre_jax.editing.pipeline import EditPipeline  # noqa: E402
from mre_jax.editing.request import EditRequest  # noqa: E402
from mre_jax.editing.settings import SamplingSettings  # noqa: E402
from mre_jax.errors import ConfigError, DataError  # noqa: E402
from mre_jax.models.bim import resized  # noqa: E402
from mre_jax.reward.config import RewardConfig  # noqa: E402
from mre_jax.smartedit.templates import Templates  # noqa: E402
from mre_jax.weights.load import load_model  # noqa: E402
from tests.editing.smartedit_composition import SmartEdit  # noqa: E402
from tests.parity import relative_error  # noqa: E402
from tests.tiny_smartedit import (  # noqa: E402
    IMAGE_TOKENS,
    TEMPLATES,
    make_tiny_smartedit,
    tiny_smartedit,
    write_templates,
)

STEPS = 4
SETTINGS = SamplingSettings(num_inference_steps=STEPS)
PROMPT = "make the car red"
REQUESTS = [
    EditRequest(prompt=PROMPT, id="a", seed=1),
    EditRequest(prompt="paint the house blue", id="b", seed=1),
    EditRequest(prompt="a dog", id="c", seed=2, guidance_scale=3.0, negative_prompt="blurred"),
    EditRequest(prompt="two cats", id="d", seed=3, image_guidance_scale=2.0),
]


@pytest.fixture(scope="module")
def pipeline():
    return EditPipeline.from_pretrained(tiny_smartedit())


@pytest.fixture(scope="module")
def photos(photo):
    return [photo, photo.transpose(Image.Transpose.ROTATE_180)] * 2


@pytest.fixture(scope="module")
def batch_of_four(pipeline, photos):
    return np.asarray(pipeline.edit_batch(REQUESTS, photos, SETTINGS).images)


@pytest.fixture(scope="module")
def composition():
    return SmartEdit(tiny_smartedit(), IMAGE_TOKENS)


@pytest.fixture(scope="module")
def conditioned(composition, photo):
    """f' and v' of the photo and the prompt, at the grid of its latents."""
    templates = Templates.parse(TEMPLATES.encode(), "tests")
    pair = templates.pair(0, PROMPT)
    return composition.condition(photo, PROMPT, templates.system, pair, (2, 3))


def test_the_condition_equals_pytorchs(pipeline, photo, conditioned):
    states = pipeline.reader([photo], [PROMPT], [0], [""])
    assert relative_error(states.text_states, conditioned[0]) < 1e-4
    grid = resized(jax.numpy.asarray(states.image_features), 2, 3)
    assert relative_error(grid, conditioned[1].permute(0, 2, 3, 1)) < 1e-4


def test_a_step_equals_pytorchs(pipeline, composition, photo, conditioned):
    text, features = conditioned
    latents = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 4, 2, 3))).float()
    original = composition.original(photo)
    theirs = composition.noise(latents, 500.0, original, text, features)
    last = functools.partial(np.transpose, axes=(0, 2, 3, 1))
    ours = pipeline.unet(
        jax.numpy.asarray(last(torch.cat([latents, original], dim=1).numpy())),
        jax.numpy.full(1, 500.0),
        jax.numpy.asarray(text.numpy()),
        None,
        jax.numpy.asarray(last(features.numpy())),
    )
    assert relative_error(ours, last(theirs.numpy())) < 1e-4
    plain = composition.noise(latents, 500.0, original, text, torch.zeros_like(features))
    assert relative_error(plain, theirs) > 1e-2


def test_the_picture_equals_pytorchs(pipeline, composition, photo, conditioned):
    scales = {"guidance_scale": 4.0, "image_guidance_scale": 1.25}
    request = EditRequest(prompt=PROMPT, id="x", seed=5, **scales)
    keys, shape = item_keys([5], ["x"]), (2, 3, 4)
    noises = [initial_latents(keys, shape), *(step_noise(keys, n, shape) for n in range(STEPS))]
    theirs = composition.edit(photo, conditioned, noises, *scales.values())
    ours = np.asarray(pipeline.edit_batch([request], [photo], SETTINGS).images)[0]
    assert relative_error(ours, theirs) < 1e-4


def test_bits_do_not_depend_on_order_or_companions(pipeline, photos, batch_of_four):
    backwards = pipeline.edit_batch(REQUESTS[::-1], photos[::-1], SETTINGS).images
    assert np.array_equal(np.asarray(backwards)[::-1], batch_of_four)
    fresh = EditPipeline.from_pretrained(tiny_smartedit())
    alone = fresh.edit_batch(REQUESTS[:1], photos[:1], SETTINGS, batch_size=4).images
    assert np.array_equal(np.asarray(alone), batch_of_four[:1])


def test_batch_size_changes_rounding_only(pipeline, photos, batch_of_four):
    alone = pipeline.edit_batch(REQUESTS[1:2], photos[1:2], SETTINGS).images
    assert relative_error(np.asarray(alone), batch_of_four[1:2]) < 1e-4


def test_two_devices_give_the_pictures_of_one(photos, batch_of_four):
    pipeline = EditPipeline.from_pretrained(tiny_smartedit()).to_devices(jax.local_devices()[:2])
    pictures = np.asarray(pipeline.edit_batch(REQUESTS, photos, SETTINGS).images)
    assert relative_error(pictures, batch_of_four) < 1e-5


def test_a_language_model_that_is_split_gives_them_too(photos, batch_of_four):
    """On chips that have no room for a copy each."""
    loaded = EditPipeline.from_pretrained(tiny_smartedit(), split_llm=True)
    assert loaded.device_count == len(jax.devices()) == 8
    for pipeline in (loaded, loaded.to_devices()):
        layer = pipeline.instruction_encoder.llm.model.layers[0].mlp.up_proj.kernel[...]
        assert layer.addressable_shards[0].data.size == layer.size // 8
        pictures = np.asarray(pipeline.edit_batch(REQUESTS, photos, SETTINGS).images)
        assert relative_error(pictures, batch_of_four) < 1e-5


def test_one_picture_and_instruction_are_read_once(photo):
    """Whatever the seeds, the rewards and the scales; another picture or text is read anew."""
    pipeline = EditPipeline.from_pretrained(tiny_smartedit(True))
    requests = [
        EditRequest(prompt=PROMPT, id=str(n), seed=n, reward_scores=(n, n, n)) for n in range(3)
    ]
    pipeline.edit(requests, [photo] * 3, SETTINGS, batch_size=2)
    assert pipeline.reader.read == 1
    pipeline.edit(requests, [photo] * 3, SETTINGS, batch_size=2)
    assert pipeline.reader.read == 1
    other = dataclasses.replace(requests[0], prompt="a dog")
    turned = photo.transpose(Image.Transpose.ROTATE_180)
    pipeline.edit([other, requests[1]], [photo, turned], SETTINGS, batch_size=2)
    assert pipeline.reader.read == 3


def test_weights_that_change_are_read_with(photo):
    pipeline = EditPipeline.from_pretrained(tiny_smartedit())

    def picture():
        edited = pipeline.edit_batch(REQUESTS[:1], [photo], SETTINGS, decode=False)
        return np.asarray(edited.images)

    before = picture()
    bias = pipeline.instruction_encoder.bim.dimension_reduction_head_zeroconv.bias
    bias[...] = bias[...] + 1
    assert not np.array_equal(picture(), before)
    assert pipeline.reader.read == 2


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 16), (40, 16), (16, 32)])
def test_any_size_is_edited(pipeline, photo, size):
    output = pipeline(PROMPT, photo, num_inference_steps=1, size=size, scheduler="euler")
    assert output.images[0].size == size


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_reward_smartedit_edits_and_zero_outputs_leave_smartedit(form, photo, tmp_path):
    config = RewardConfig(form=form, num_attention_heads=4)
    folder = make_tiny_smartedit(tmp_path / form, reward=config.to_dict())
    pipeline = EditPipeline.from_pretrained(folder)

    def latents(of, **changes):
        request = EditRequest(prompt=PROMPT, seed=1, **changes)
        return np.asarray(of.edit_batch([request], [photo], SETTINGS, decode=False).images)

    best, worst = latents(pipeline), latents(pipeline, reward_scores=(0, 0, 0))
    assert relative_error(best, worst) > 1e-4
    assert pipeline.reader.read == 1
    reward = pipeline.unet.reward
    last = [reward.encoder.proj_out]
    last += (
        [*reward.linear_2] if form == "paper" else [reward.score_time.linear_2, reward.text_time]
    )
    for layer in last:
        layer.kernel[...] = layer.kernel[...] * 0
        layer.bias[...] = layer.bias[...] * 0
    plain = EditPipeline.from_pretrained(tiny_smartedit())
    assert relative_error(latents(pipeline), latents(plain)) < 1e-5


@pytest.mark.slow
def test_bfloat16_edits(photo):
    pipeline = EditPipeline.from_pretrained(tiny_smartedit(), dtype="bfloat16")
    assert pipeline(PROMPT, photo, num_inference_steps=2, size="keep").images[0].size == (24, 16)


def test_a_saved_pipeline_edits_the_same(pipeline, photos, batch_of_four, tmp_path):
    pipeline.save_pretrained(tmp_path / "saved")
    again = EditPipeline.from_pretrained(tmp_path / "saved")
    assert again.checkpoint == pipeline.checkpoint
    assert again.provenance == pipeline.provenance
    pictures = np.asarray(again.edit_batch(REQUESTS, photos, SETTINGS).images)
    assert np.array_equal(pictures, batch_of_four)


@pytest.mark.slow
def test_templates_change_pictures_and_provenance_and_are_saved(pipeline, photo, tmp_path):
    text = TEMPLATES.replace("talk about", "speak of")
    (tmp_path / "own.txt").write_text(text)
    same = write_templates(tmp_path / "same.txt")
    pipelines = [
        EditPipeline.from_pretrained(tiny_smartedit(), templates=path)
        for path in (same, tmp_path / "own.txt")
    ]
    pictures = [
        np.asarray(each.edit_batch(REQUESTS[:1], [photo], SETTINGS, decode=False).images)
        for each in (pipeline, *pipelines)
    ]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    hashes = [each.provenance["templates"] for each in (pipeline, *pipelines)]
    assert hashes[0] == hashes[1] != hashes[2]
    pipelines[1].save_pretrained(tmp_path / "saved")
    saved = EditPipeline.from_pretrained(tmp_path / "saved")
    assert saved.provenance["templates"] == hashes[2]


def test_a_sampled_reply_is_the_edits_own(photo):
    """A random language model writes no image tokens: it is said, and counted."""
    pipeline = EditPipeline.from_pretrained(tiny_smartedit(), reply="sampled")
    assert pipeline.provenance["reply"] == "sampled"
    with pytest.warns(UserWarning, match="its template's reply is taken") as said:
        sampled = pipeline.edit_batch(REQUESTS[:2], [photo] * 2, SETTINGS, decode=False).images
    assert len(said) == 2
    replies = pipeline.reader.encoder.replies
    assert (replies.sampled, replies.retried, replies.teacher_forced) == (2, 2, 2)
    forced = EditPipeline.from_pretrained(tiny_smartedit())
    given = forced.edit_batch(REQUESTS[:2], [photo] * 2, SETTINGS, decode=False).images
    assert relative_error(sampled, given) < 1e-4
    again = dataclasses.replace(REQUESTS[0], guidance_scale=2.0)
    pipeline.edit_batch([again], [photo], SETTINGS, batch_size=2)
    assert replies.sampled == 2
    with pytest.warns(UserWarning, match="its template's reply is taken"):
        pipeline.edit_batch([dataclasses.replace(again, seed=9)], [photo], SETTINGS, batch_size=2)
    assert replies.sampled == 3


def test_states_that_are_not_finite_are_blamed_on_their_network(photo):
    pipeline = EditPipeline.from_pretrained(tiny_smartedit())
    kernel = pipeline.instruction_encoder.qformer.encoder.layer[0].output_query.dense.kernel
    kernel[...] = kernel[...] * np.nan
    (error,) = pipeline.edit_or_fail(REQUESTS[:1], [photo], SETTINGS)
    assert isinstance(error, DataError)
    assert "edit a is not finite from the language model on" in str(error)


def test_an_instruction_with_a_tokens_name_is_refused_before_any_work(pipeline, photo):
    read = pipeline.reader.read
    with pytest.raises(DataError, match="holds <img_1>, the name of a token"):
        pipeline(["an instruction of its own", "make <img_1> red"], photo)
    assert pipeline.reader.read == read


def test_templates_and_replies_need_a_language_model(plain_torch, plain_folder, tmp_path):
    templates = write_templates(tmp_path / "t.txt")
    for options in ({"reply": "sampled"}, {"templates": templates}, {"split_llm": True}):
        with pytest.raises(ConfigError, match="has no language model: leave"):
            EditPipeline.from_pretrained(plain_folder, **options)
    with pytest.raises(ConfigError, match="reply 'loud' is not one of teacher_forced, sampled"):
        EditPipeline.from_pretrained(tiny_smartedit(), reply="loud")
    with pytest.raises(DataError, match="missing; name a file of templates"):
        EditPipeline.from_pretrained(tiny_smartedit(), templates=tmp_path / "none.txt")


def test_states_of_another_length_than_the_empty_prompts_are_refused():
    """They stand side by side in a batch of branches."""
    model = load_model(tiny_smartedit())
    qformer = model.instruction_encoder.qformer
    qformer.config = dataclasses.replace(qformer.config, query_length=7)
    with pytest.raises(ConfigError, match=r"makes 7 states of an instruction, .* 77 of the empty"):
        EditPipeline(model)
