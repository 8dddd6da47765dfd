"""The pipeline gives diffusers' pictures, whatever else is in the batch and however it is split."""

import dataclasses
import functools
import inspect
import json
import operator
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from mre_jax.editing.inputs import guidance_of  # noqa: E402
from mre_jax.editing.pipeline import EditPipeline  # noqa: E402
from mre_jax.editing.request import EditRequest  # noqa: E402
from mre_jax.editing.settings import SamplingSettings  # noqa: E402
from mre_jax.editing.spec import EditingSpec  # noqa: E402
from mre_jax.errors import ConfigError, DataError  # noqa: E402
from mre_jax.weights.load import load_model  # noqa: E402
from tests.parity import relative_error  # noqa: E402

STEPS = 3
SCHEDULER = "scheduler/scheduler_config.json"
LATENTS = np.random.default_rng(1).normal(size=(1, 2, 3, 4)).astype(np.float32)
SETTINGS = SamplingSettings(num_inference_steps=STEPS)


def edit(pipeline, prompt, photo, **options):
    options = {"num_inference_steps": STEPS, "output_type": "np", "size": "keep"} | options
    return pipeline(prompt, photo, **options).images


def diffusers_edit(pipeline, folder, scheduler: str, prompt, photo, **options):
    scheduler_class = getattr(diffusers, scheduler)
    pipeline.scheduler = scheduler_class.from_pretrained(folder, subfolder="scheduler")
    latents = torch.from_numpy(LATENTS).permute(0, 3, 1, 2)
    return pipeline(
        prompt, photo, num_inference_steps=STEPS, latents=latents, output_type="np", **options
    ).images[0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("euler", "EulerDiscreteScheduler"),
        ("ddim", "DDIMScheduler"),
        ("dpmsolver++", "DPMSolverMultistepScheduler"),
        ("heun", "HeunDiscreteScheduler"),
        ("unipc", "UniPCMultistepScheduler"),
    ],
)
def test_picture_equals_diffusers(plain_torch, plain_folder, plain_pipeline, photo, ours, theirs):
    options = {"guidance_scale": 4.0, "image_guidance_scale": 1.25}
    (picture,) = edit(
        plain_pipeline, "make it snow", photo, scheduler=ours, latents=LATENTS, **options
    )
    reference = diffusers_edit(plain_torch, plain_folder, theirs, "make it snow", photo, **options)
    assert relative_error(picture, reference) < 1e-4


def test_picture_without_guidance_equals_diffusers(
    plain_torch, plain_folder, plain_pipeline, photo
):
    options = {"guidance_scale": 1.0, "image_guidance_scale": 1.5}
    (picture,) = edit(
        plain_pipeline, "make it snow", photo, scheduler="euler", latents=LATENTS, **options
    )
    theirs = "EulerDiscreteScheduler"
    reference = diffusers_edit(plain_torch, plain_folder, theirs, "make it snow", photo, **options)
    assert relative_error(picture, reference) < 1e-4


def test_reward_reaches_every_branch_as_in_pytorch(
    reward_torch, reward_folder, reward_pipeline, photo
):
    scores, complaint = (1, 2.5, 4), "bad; so; so"
    (picture,) = edit(
        reward_pipeline,
        "make it snow",
        photo,
        scheduler="euler",
        latents=LATENTS,
        reward_scores=scores,
        reward_text=complaint,
    )
    ids = reward_torch.tokenizer(complaint, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        text = reward_torch.text_encoder(ids)
    reward_torch.unet.forward = functools.partial(
        reward_torch.unet.forward,
        reward_scores=torch.tensor([scores]).repeat(3, 1),
        reward_text_states=text.last_hidden_state.repeat(3, 1, 1),
        reward_text_pooled=text.pooler_output.repeat(3, 1),
    )
    reference = diffusers_edit(
        reward_torch, reward_folder, "EulerDiscreteScheduler", "make it snow", photo
    )
    assert relative_error(picture, reference) < 1e-4


REQUESTS = [
    EditRequest(prompt="make it snow", id="a", seed=1, reward_scores=(5, 5, 5)),
    EditRequest(prompt="add a hat", id="b", seed=1, reward_scores=(0, 3, 5)),
    EditRequest(prompt="at night", id="c", seed=2, reward_text="blurred", guidance_scale=3.0),
    EditRequest(prompt="in oil", id="d", seed=3, image_guidance_scale=2.0),
]


@pytest.fixture(scope="module")
def photos(photo):
    return [photo, photo.transpose(Image.Transpose.ROTATE_180)] * 2


@pytest.fixture(scope="module")
def batch_of_four(reward_pipeline, photos):
    return np.asarray(reward_pipeline.edit_batch(REQUESTS, photos, SETTINGS).images)


def test_bits_do_not_depend_on_order_or_companions(reward_pipeline, photos, batch_of_four):
    backwards = reward_pipeline.edit_batch(REQUESTS[::-1], photos[::-1], SETTINGS).images
    assert np.array_equal(np.asarray(backwards)[::-1], batch_of_four)
    alone = reward_pipeline.edit_batch(REQUESTS[:1], photos[:1], SETTINGS, batch_size=4).images
    assert np.array_equal(np.asarray(alone), batch_of_four[:1])


def test_batch_size_changes_rounding_only(reward_pipeline, photos, batch_of_four):
    alone = reward_pipeline.edit_batch(REQUESTS[1:2], photos[1:2], SETTINGS).images
    assert relative_error(np.asarray(alone), batch_of_four[1:2]) < 1e-4


def test_eight_devices_give_the_pictures_of_one(reward_folder, photos, batch_of_four):
    assert len(jax.devices()) == 8
    pipeline = EditPipeline.from_pretrained(reward_folder).to_devices()
    pictures = np.asarray(pipeline.edit_batch(REQUESTS, photos, SETTINGS).images)
    assert relative_error(pictures, batch_of_four) < 1e-5


def test_seed_id_and_reward_each_change_the_picture(reward_pipeline, photo):
    def picture(**changes):
        request = EditRequest(prompt="make it snow", **changes)
        return np.asarray(reward_pipeline.edit_batch([request], [photo], SETTINGS).images)

    reference = picture()
    assert np.array_equal(picture(), reference)
    assert np.array_equal(
        picture(reward_scores=(5, 5, 5), reward_text="None; None; None"), reference
    )
    for changes in ({"seed": 1}, {"id": "x"}, {"reward_scores": (0, 5, 5)}, {"reward_text": "bad"}):
        assert not np.array_equal(picture(**changes), reference), changes


def test_reward_guidance_moves_away_from_the_low_reward(reward_pipeline, photo):
    def latents(low, scale):
        request = EditRequest(
            prompt="make it snow", reward_guidance_scale=scale, low_reward_scores=low
        )
        edited = reward_pipeline.edit_batch([request], [photo], SETTINGS, decode=False)
        return np.asarray(edited.images)

    strong = latents((5, 5, 5), 2.0)
    assert strong.shape == (1, 2, 3, 4)
    assert relative_error(latents((5, 5, 5), 4.0), strong) < 1e-4
    assert relative_error(latents((0, 0, 0), 2.0), strong) > 1e-3
    requests = [EditRequest(prompt="x", reward_guidance_scale=scale) for scale in (1.0, 2.0)]
    assert [len(guidance_of([x], SETTINGS).branches) for x in requests] == [3, 4]


def test_reward_guidance_may_move_away_from_no_reward(reward_pipeline, photo):
    """As the UNet predicts where `loss.reward_dropout` has taken the reward away in training."""

    def latents(low, text=None):
        request = EditRequest(
            prompt="make it snow",
            reward_guidance_scale=2.0,
            low_reward_scores=low,
            low_reward_text=text,
        )
        edited = reward_pipeline.edit_batch([request], [photo], SETTINGS, decode=False)
        return np.asarray(edited.images)

    without = latents(None)
    assert np.array_equal(latents(None, "blurred"), without)  # there is nothing to read
    for low in ((0, 0, 0), (5, 5, 5)):
        assert relative_error(latents(low), without) > 1e-3


def test_call_takes_lists_and_single_values(plain_pipeline, photo):
    output = plain_pipeline(
        ["make it snow", "at night", "make it snow"],
        [photo, photo.resize((32, 16)), photo],
        seed=[0, 1, 0],
        scheduler="euler",
        num_inference_steps=STEPS,
        size="keep",
        batch_size=1,
    )
    assert [image.size for image in output.images] == [(24, 16), (32, 16), (24, 16)]
    assert output.images[0] == output.images[2]


def test_a_phones_photo_is_edited_upright(plain_pipeline, photo, tmp_path):
    """As `mre edit` does with the same file: its pixels lie, and EXIF says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    with Image.open(tmp_path / "phone.png") as phone:
        (edited,) = edit(plain_pipeline, "x", phone, scheduler="euler")
    (wanted,) = edit(plain_pipeline, "x", photo, scheduler="euler")
    assert np.array_equal(edited, wanted)


def test_saved_pipeline_edits_the_same(plain_pipeline, photo, tmp_path):
    plain_pipeline.save_pretrained(tmp_path / "saved")
    again = EditPipeline.from_pretrained(tmp_path / "saved")
    assert again.checkpoint == plain_pipeline.checkpoint
    pictures = [
        edit(pipeline, "make it snow", photo, scheduler="euler", latents=LATENTS)[0]
        for pipeline in (plain_pipeline, again)
    ]
    assert np.array_equal(*pictures)


def test_raw_weights_or_their_average_are_taken_as_asked(plain_torch, plain_folder, tmp_path):
    """The hash is that of the weights which edit: results are recorded under it."""
    both = shutil.copytree(plain_folder, tmp_path / "both")
    shutil.copytree(both / "unet", both / "unet_ema")
    path = next((both / "unet_ema").glob("*.safetensors"))
    save_file({name: array / 2 for name, array in load_file(path).items()}, path)
    names = {
        weights: EditPipeline.from_pretrained(both, weights=weights).checkpoint
        for weights in (None, "ema", "raw")
    }
    assert names["raw"] == EditPipeline.from_pretrained(plain_folder).checkpoint
    assert names["ema"] == names[None] != names["raw"]


def test_a_lora_changes_the_pictures_and_the_checkpoints_name(
    plain_torch, plain_folder, photo, tmp_path
):
    """Results are recorded under the hash: those of a LoRA must not pass for the plain model's."""
    change = {"lora_unet_conv_out.diff_b": np.full(4, 0.5, np.float32)}
    save_file(change, tmp_path / "style.safetensors")
    loras = {scale: [(tmp_path / "style.safetensors", scale)] for scale in (1, 2, 0)}
    pipelines = [EditPipeline.from_pretrained(plain_folder)]
    with pytest.warns(UserWarning, match=r"style\.safetensors at scale ") as said:
        pipelines += [EditPipeline.from_pretrained(plain_folder, lora=x) for x in loras.values()]
    assert len(said) == len(loras)
    pictures = [
        edit(pipeline, "make it snow", photo, scheduler="euler", latents=LATENTS)[0]
        for pipeline in pipelines
    ]
    plain, once, twice, nothing = pictures
    assert np.array_equal(plain, nothing) and not np.array_equal(plain, once)
    assert not np.array_equal(once, twice)
    names = [pipeline.checkpoint for pipeline in pipelines]
    assert names[0] == names[3] and len(set(names)) == 3
    assert pipelines[0].notes == ()
    assert "style.safetensors at scale 2: 1 layers of unet" in pipelines[2].notes[0]
    pipelines[1].save_pretrained(tmp_path / "merged")
    assert EditPipeline.from_pretrained(tmp_path / "merged").checkpoint == names[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "eulr"}, "did you mean 'euler'"),
        ({"guidance_scale": 0.5}, "guidance_scale=0.5"),
        ({"image_guidance_scale": 0.0}, "image_guidance_scale=0"),
        ({"guidance_rule": "x"}, "guidance rule 'x'"),
        ({"num_inference_steps": 0}, "num_inference_steps 0"),
        ({"scheduler": "ddim", "eta": 2.0}, "eta=2"),
        ({"scheduler": "euler", "eta": 0.5}, "eta=0.5"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"prompt": []}, "prompt is an empty list"),
        ({"prompt": ["a", "b"], "seed": [1, 2, 3]}, "prompt has 2 values and seed 3"),
        ({"output_type": "jpg"}, "output_type 'jpg'"),
        ({"reward_scores": (5, 5, 5)}, "takes no reward"),
        ({"reward_guidance_scale": 2.0}, "takes no reward"),
        ({"latents": np.zeros((2, 2, 3, 4))}, "latents of shape"),
        ({"latents": np.zeros((1, 2, 2, 4))}, "latents of shape"),
        ({"size": "huge"}, "size 'huge'"),
        ({"image": "photo.jpg"}, "want PIL pictures"),
    ],
)
def test_bad_arguments_are_named(plain_pipeline, photo, options, message):
    arguments = {"prompt": "make it snow", "image": photo, "size": "keep"} | options
    with pytest.raises(ConfigError, match=message):
        plain_pipeline(**arguments)


def test_defaults_are_those_of_the_command_line():
    """One picture, one result, whoever asks for it."""
    given = inspect.signature(EditPipeline.__call__).parameters
    spec = EditingSpec()
    fields = vars(spec.sampling) | vars(spec.conditions)
    fields |= {"size": spec.size, "resolution": spec.resolution}
    assert fields == {name: given[name].default for name in fields}
    loads = inspect.signature(EditPipeline.from_pretrained).parameters
    fields = vars(spec.model)
    assert {k: v for k, v in fields.items() if k != "model"} == {
        name: loads[name].default for name in fields if name != "model"
    }


def test_a_replaced_sampler_is_said_once_and_not_where_one_is_named(plain_torch, plain_folder):
    model = load_model(plain_folder)
    config = json.loads(model.files[SCHEDULER]) | {"_class_name": "PNDMScheduler"}
    files = {**model.files, SCHEDULER: json.dumps(config).encode()}
    pipeline = EditPipeline(dataclasses.replace(model, files=files))
    pipeline.check([], dataclasses.replace(SETTINGS, scheduler="ddim"))
    with pytest.warns(UserWarning, match="PNDMScheduler has no counterpart") as said:
        pipeline.check([], SETTINGS)
        pipeline.check([], SETTINGS)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, DataError, r"has no scheduler/scheduler_config\.json"),
        (b"[", DataError, "is no JSON object"),
        (b'{"_class_name": "FlowMatchEulerDiscreteScheduler"}', ConfigError, "flow matching"),
    ],
)
def test_a_scheduler_that_cannot_be_used_is_refused(
    plain_torch, plain_folder, text, error, message
):
    model = load_model(plain_folder)
    files = {name: data for name, data in model.files.items() if name != SCHEDULER}
    files |= {} if text is None else {SCHEDULER: text}
    with pytest.raises(error, match=message):
        EditPipeline(dataclasses.replace(model, files=files))


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(plain_pipeline):
    with pytest.warns(
        UserWarning, match=r"prompt 'x{40}.* has 102 tokens, 77 fit: cut off 'x{25}'"
    ):
        ids = plain_pipeline.tokenizer(["x" * 100])
    assert ids.shape == (1, 77)


BROKEN = "z"
"""A prompt with this letter is not finite in `broken_pipeline`."""


@pytest.fixture
def broken_pipeline(plain_torch, plain_folder):
    """One row of the text encoder's table is as large as a float can be."""
    pipeline = EditPipeline.from_pretrained(plain_folder)
    table = pipeline.text_encoder.text_model.embeddings.token_embedding.embedding
    (token,) = {*pipeline.tokenizer([BROKEN])[0].tolist()} - {
        *pipeline.tokenizer(["a"])[0].tolist()
    }
    table[...] = table[...].at[token].set(3e38)
    return pipeline


@pytest.mark.parametrize("output_type", ["pil", "np", "latent"])
def test_an_edit_that_is_not_finite_is_an_error_and_no_black_picture(
    broken_pipeline, photo, output_type
):
    """Its cast to 8 bits would be black, and look like an edit."""
    options = {"num_inference_steps": 2, "output_type": output_type, "size": "keep"}
    with pytest.raises(DataError, match=r"edit 1, counted from 0, is not finite from the text enc"):
        broken_pipeline(["a", BROKEN], photo, **options)
    with pytest.raises(DataError, match=r"edit sky is not finite"):
        broken_pipeline(["a", BROKEN], photo, ids=["sea", "sky"], **options)
    assert len(broken_pipeline(["a", "b"], photo, **options).images) == 2


def test_the_first_place_that_is_not_finite_is_named(plain_torch, plain_folder, photo):
    """The table of stages: which network, which step."""
    request = EditRequest(prompt="a")

    def failure(part: str, scale: float) -> str:
        pipeline = EditPipeline.from_pretrained(plain_folder)
        kernel = operator.attrgetter(part)(pipeline).kernel
        kernel[...] = kernel[...] * scale
        (error,) = pipeline.edit_or_fail([request], [photo], SETTINGS)
        return str(error)

    assert "from the VAE's encoder on" in failure("vae.encoder.conv_in", np.nan)
    assert "from denoising step 1 of 3 on" in failure("unet.conv_in", np.nan)
    assert "in the VAE's decoder" in failure("vae.decoder.conv_out", np.inf)
