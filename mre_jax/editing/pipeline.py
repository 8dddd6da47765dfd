"""The editor a user holds: a checkpoint's networks, its tokenizer, and calls that edit pictures."""

import dataclasses
import functools
import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import Mesh
from numpy.typing import ArrayLike
from PIL import Image
from tqdm import tqdm

from mre_jax.diffusion.native_sampler import native_sampler
from mre_jax.diffusion.sampling import Plan, plan_sampling
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.editing.batching import Latents, Made, edit_in_batches
from mre_jax.editing.inputs import edit_inputs, guidance_of, prompts_of
from mre_jax.editing.instruction_reader import REPLIES, InstructionReader
from mre_jax.editing.program import Edited, Networks, edit
from mre_jax.editing.request import EditRequest, spread
from mre_jax.editing.settings import SamplingSettings
from mre_jax.editing.size import RESOLUTION, SIZE, fit, parse_size, target_size
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.devices import batch_mesh, copied, split_longest
from mre_jax.io.image import to_pil, to_rgb
from mre_jax.models.attention import check_implementation
from mre_jax.models.layers import Compute
from mre_jax.reward.config import RewardConfig
from mre_jax.reward.scores import WORST
from mre_jax.smartedit.instruction_encoder import TEMPLATES_FILE
from mre_jax.smartedit.templates import Templates
from mre_jax.weights.digest import weights_hash
from mre_jax.weights.load import Model, load_model
from mre_jax.weights.lora import Loras
from mre_jax.weights.save import save_model
from mre_jax.weights.surroundings import scheduler_config
from mre_jax.weights.tokens import Tokenizer

OUTPUT_TYPES = ("pil", "np", "latent")


@dataclasses.dataclass(frozen=True)
class EditOutput:
    """What a call returns.

    Attributes:
        images: PIL pictures; or arrays [H W 3] in [0, 1]; or latents [h w c]. One per edit.
    """

    images: list[Image.Image] | list[np.ndarray]


class EditPipeline:
    """Edits pictures by instruction, with a reward where the checkpoint takes one.

    Args:
        model: the networks, an InstructPix2Pix's or a SmartEdit's.
        templates: SmartEdit's, in the place of the model's own.
        reply: whether SmartEdit's language model is given its reply ("teacher_forced") or writes
            one of its own ("sampled").

    Attributes:
        unet, vae, text_encoder: the NNX modules.
        instruction_encoder: SmartEdit's networks before the UNet; None of another editor.
        reader: what reads instructions with them; None where the text encoder does.
        tokenizer: tokenizer of the checkpoint.
        schedule: noise schedule of the checkpoint's training.
        scheduler: name of the checkpoint's sampler, or of what samples in its place; then the
            first edit that names none says so in a warning.
        mesh: the devices that share a batch, by `to_devices`; None is one device.

    Example:
        `TOY` is `mre_jax.toyworld.EDITOR`, the small editor that ships.

        >>> pipeline = EditPipeline.from_pretrained(TOY)
        >>> photo = Image.new("RGB", (64, 64), "white")
        >>> pipeline("make it night", photo, num_inference_steps=1, size="keep").images[0].size
        (64, 64)
    """

    def __init__(
        self, model: Model, *, templates: Templates | None = None, reply: str = REPLIES[0]
    ):
        if templates is not None:  # which are the model's from here on
            files = {**model.files, TEMPLATES_FILE: templates.text.encode()}
            model = dataclasses.replace(model, files=files)
        self._model = model
        self.unet = model.unet
        self.vae = model.vae
        self.text_encoder = model.text_encoder
        self.tokenizer = Tokenizer.from_files(model.files, model.text_encoder.config)
        config = scheduler_config(model.files, model.origin)
        self.scheduler, self._note = native_sampler(config)
        self.schedule = NoiseSchedule.from_dict(config)
        self.mesh: Mesh | None = None
        self.instruction_encoder = model.instruction_encoder
        self.reader = InstructionReader.of_model(model, self.tokenizer, templates, reply)

    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image],
        *,
        num_inference_steps: int = SamplingSettings.num_inference_steps,
        guidance_scale: float | Sequence[float] = EditRequest.guidance_scale,
        image_guidance_scale: float | Sequence[float] = EditRequest.image_guidance_scale,
        negative_prompt: str | Sequence[str] = "",
        reward_scores: Sequence[float] | Sequence[Sequence[float]] | None = None,
        reward_text: str | Sequence[str] | None = None,
        reward_guidance_scale: float | Sequence[float] = 1.0,
        low_reward_scores: Sequence[float] | None = WORST,
        low_reward_text: str | None = None,
        scheduler: str | None = None,
        guidance_rule: str = "instruct_pix2pix",
        prompt_suffix: str = "",
        eta: float = 0.0,
        size: str | tuple[int, int] = SIZE,
        resolution: int = RESOLUTION,
        seed: int | Sequence[int] = 0,
        ids: Sequence[str] | None = None,
        latents: ArrayLike | None = None,
        output_type: str = "pil",
        batch_size: int | None = None,
        progress: bool = False,
    ) -> EditOutput:
        """Edits one picture or several.

        Whatever may be a sequence holds one value per edit; a single value serves all. An edit
        depends on its own arguments, seed and id alone, never on its companions. The defaults are
        those of `mre edit`: 30 steps, scales of 7.5 and 1.5, the size "paper". Arguments that are
        not listed are those of `SamplingSettings` and `EditConditions`.

        Args:
            prompt: the instruction.
            image: the original; turned as its EXIF block says, and brought to `size`.
            size: "paper", "keep", "released_code" (`mre_jax.editing.size`), or (width, height).
            resolution: pixels of "paper" and "released_code".
            ids: names of the edits, which decide the noise together with the seeds; none by
                default.
            latents: standard normal noise [b h w c] to start from, instead of the seed's.
            output_type: "pil", "np" or "latent".
            batch_size: edits that run together; None takes all of a size.
            progress: whether a bar counts the edits.

        Raises:
            ConfigError: for an argument that is out of range, of the wrong length or kind, or
                does not fit the checkpoint or the memory.
            DataError: for a picture that cannot be converted to RGB, or an edit that is not finite;
                it says from where on.
        """
        if output_type not in OUTPUT_TYPES:
            raise ConfigError(
                f"output_type {output_type!r} is not one of {', '.join(OUTPUT_TYPES)}"
            )
        edits = spread(
            prompt=prompt,
            image=_resized(image, parse_size(size), resolution),
            id=ids if ids is not None else "",
            seed=seed,
            negative_prompt=negative_prompt,
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            reward_scores=reward_scores,
            reward_text=reward_text,
            reward_guidance_scale=reward_guidance_scale,
            low_reward_scores=low_reward_scores,
            low_reward_text=low_reward_text,
        )
        images = [edit.pop("image") for edit in edits]
        found = self._each(
            [EditRequest(**edit) for edit in edits],
            images,
            SamplingSettings(num_inference_steps, scheduler, guidance_rule, prompt_suffix, eta),
            batch_size,
            latents=None if latents is None else self._as_latents(latents, images),
            decode=output_type != "latent",
            progress=progress,
        )
        arrays = _all_made(found)
        return EditOutput([to_pil(array) for array in arrays] if output_type == "pil" else arrays)

    @classmethod
    def from_pretrained(
        cls,
        path: epath.PathLike,
        *,
        base: epath.PathLike | None = None,
        lora: Loras = (),
        weights: str | None = None,
        dtype: str = "float32",
        attention: str = "auto",
        vae_tiling: bool = False,
        templates: epath.PathLike | None = None,
        reply: str = REPLIES[0],
        split_llm: bool = False,
    ) -> "EditPipeline":
        """Loads a checkpoint of any layout that `mre convert` reads.

        What had to be changed or assumed is said in warnings, and stays in `notes`.

        Args:
            path: a folder, a weight file, a gs:// path, or a hub id "org/name@revision".
            base: a model for what `path` lacks, such as the tokenizer of a file; from anywhere too.
            lora: LoRA files to merge into the weights, from anywhere too: "FILE", "FILE:SCALE",
                (FILE, SCALE) or several.
            weights: "ema" or "raw" where there are both; None prefers the moving average.
            dtype: dtype of weights and arithmetic, "float32" or "bfloat16".
            attention: an implementation of `mre_jax.models.attention`.
            vae_tiling: encode and decode large pictures in overlapping tiles.
            templates: a file of SmartEdit's system prompt and templates (see
                `mre_jax.smartedit.templates`), in the place of the model's own.
            reply: "teacher_forced" gives SmartEdit's language model the template's reply, which
                costs one pass a picture and instruction; "sampled" lets it write one of its own,
                by an edit's seed and id, as the official script does.
            split_llm: put a part of SmartEdit's language model on each device of this host, and a
                copy of all else; where one device has no room for it.

        Raises:
            ConfigError, DataError: naming what is missing, damaged, or of another architecture.
        """
        if dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"dtype {dtype!r} is not float32 or bfloat16")
        check_implementation(attention)
        read = None if templates is None else Templates.read(templates)
        compute = Compute(dtype=jnp.dtype(dtype), attention=attention)
        mesh = batch_mesh() if split_llm and len(jax.local_devices()) > 1 else None
        model = load_model(
            path,
            base=base,
            lora=lora,
            weights=weights,
            compute=compute,
            dtype=compute.dtype,
            placement=None if mesh is None else functools.partial(_place, mesh),
        )
        for note in model.notes:
            warnings.warn(f"{path}: {note}", stacklevel=2)
        if split_llm and model.instruction_encoder is None:
            raise ConfigError(f"{path} has no language model: leave split_llm out")
        model.vae.tiling = vae_tiling
        pipeline = cls(model, templates=read, reply=reply)
        pipeline.mesh = mesh
        return pipeline

    def save_pretrained(
        self, folder: epath.PathLike, *, format: str = "diffusers", force: bool = False
    ) -> None:
        """Writes the networks as they are now, with the checkpoint's other files.

        Args:
            folder: new, or empty, local or gs://.
            format: "diffusers", which PyTorch loads too, or "orbax".
            force: replace a folder that is not empty.
        """
        networks = self._networks()._asdict()
        made = dataclasses.replace(
            self._model, **networks, instruction_encoder=self.instruction_encoder
        )
        save_model(made, folder, format=format, force=force)

    @functools.cached_property
    def checkpoint(self) -> str:
        """SHA-256 of the weights as they were loaded, equal for every layout that holds them."""
        model = self._model
        weights = None if model.weights == "only" else model.weights
        return weights_hash(model.origin, base=model.base, lora=model.lora, weights=weights)

    def to_devices(self, devices: Sequence[jax.Device] | None = None) -> "EditPipeline":
        """Copies the weights to `devices`, by default all of this host's, to share every batch.

        A language model that was split when it was loaded stays where it is.

        Returns:
            The same pipeline.
        """
        devices = list(devices or jax.local_devices())
        self.mesh = batch_mesh(devices) if len(devices) > 1 else None
        place = copied(self.mesh) if self.mesh else devices[0]
        modules: list[nnx.Module] = [*self._networks()]
        if self.reader is not None and not self.reader.is_split:
            modules.append(self.reader.encoder.encoder)
            self.reader.encoder.mesh = self.mesh
        for module in modules:
            nnx.update(module, jax.device_put(nnx.state(module), place))
        return self

    @property
    def provenance(self) -> dict[str, str]:
        """What decides an edit besides the request, its picture and the settings of sampling.

        The hash of the weights; of a SmartEdit that of its templates and the kind of its replies.
        """
        read = {} if self.reader is None else self.reader.settings
        return {"checkpoint": self.checkpoint, **read}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed or assumed when the checkpoint was loaded."""
        return self._model.notes

    @property
    def device_count(self) -> int:
        """Devices that share a batch."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def takes_reward(self) -> bool:
        """Whether the checkpoint's UNet has a reward condition."""
        return self._reward_config is not None

    @property
    def perspectives(self) -> tuple[str, ...]:
        """Those whose reward the checkpoint takes; none if it takes no reward."""
        return self._reward_config.perspectives if self._reward_config is not None else ()

    def check(self, requests: Sequence[EditRequest], settings: SamplingSettings) -> None:
        """Refuses, before any work, what this checkpoint cannot do.

        Raises:
            ConfigError: naming the setting.
        """
        self._plan(settings)
        if settings.scheduler is None and self._note:
            warnings.warn(self._note, stacklevel=2)
            self._note = ""  # once
        for request in requests:
            guidance_of([request], settings)
            asks = request.reward_scores is not None or request.reward_text is not None
            if not self.takes_reward and (asks or request.reward_guidance_scale != 1):
                raise ConfigError("this checkpoint takes no reward; leave the reward options out")
        if self.reader is not None:
            for prompt in prompts_of(requests, settings):
                self.reader.encoder.check(prompt)

    def edit(
        self,
        requests: Sequence[EditRequest],
        images: Sequence[Image.Image],
        settings: SamplingSettings,
        *,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> list[Image.Image]:
        """Edits pictures of any sizes; returns them in the order of `requests`.

        Args:
            images: RGB, one per request, each edited at its own size in multiples of 8.
            batch_size: edits that run together; None takes all of a size.
            progress: whether a bar counts the edits.

        Raises:
            ConfigError: if the checkpoint cannot do what is asked, or the memory does not suffice.
            DataError: if an edit is not finite; it says from where on.
        """
        found = self._each(requests, images, settings, batch_size, progress=progress)
        return [to_pil(array) for array in _all_made(found)]

    def edit_or_fail(
        self,
        requests: Sequence[EditRequest],
        images: Sequence[Image.Image],
        settings: SamplingSettings,
        *,
        batch_size: int | None = None,
    ) -> list[Image.Image | DataError]:
        """As `edit`, with the error in the place of an edit that is not finite."""
        found = self._each(requests, images, settings, batch_size)
        return [x if isinstance(x, DataError) else to_pil(x) for x in found]

    def edit_batch(
        self,
        requests: Sequence[EditRequest],
        images: Sequence[Image.Image],
        settings: SamplingSettings,
        *,
        batch_size: int | None = None,
        latents: Latents | None = None,
        decode: bool = True,
    ) -> Edited:
        """Starts the edit of pictures of one size under one set of guidance branches.

        Args:
            batch_size: the batch is filled up to it, so that a smaller last one neither compiles
                another program nor rounds otherwise.
            latents: noise to start from.
            decode: False returns latents.

        Returns:
            Pixels in [0, 1], or latents, of `requests`, and whether they are finite; the device may
            still be at work on them.
        """
        count = len(requests)
        size = max(count, batch_size or 0)
        size = -(-size // self.device_count) * self.device_count
        filled = [*requests, *[requests[-1]] * (size - count)]
        pictures = [*images, *[images[-1]] * (size - count)]
        if latents is not None:
            latents = np.concatenate([latents, np.repeat(latents[-1:], size - count, axis=0)])
        instruction = None
        if self.reader is not None:
            seeds, ids = [r.seed for r in filled], [r.id for r in filled]
            prompts = prompts_of(filled, settings)
            instruction = self.reader(pictures, prompts, seeds, ids)
        inputs = edit_inputs(
            filled,
            pictures,
            settings,
            tokenizer=self.tokenizer,
            perspectives=self.perspectives,
            instruction=instruction,
            latents=latents,
        )
        graphs, states = self._networks().split()
        plan = self._plan(settings)
        edited = edit(states, inputs, plan, graphs=graphs, decode=decode, mesh=self.mesh)
        told = None if instruction is None else instruction.are_finite()[:count]
        return Edited(edited.images[:count], edited.finite[:count], told)

    def _each(
        self,
        requests: Sequence[EditRequest],
        images: Sequence[Image.Image],
        settings: SamplingSettings,
        batch_size: int | None,
        *,
        latents: Latents | None = None,
        decode: bool = True,
        progress: bool = False,
    ) -> list[Made]:
        """The array of each request, or why there is none."""
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size {batch_size} is not a positive number")
        self.check(requests, settings)
        made: dict[int, Made] = {}
        # None: a bar only where stderr is a terminal.
        disable = None if progress else True
        with tqdm(total=len(requests), unit="edit", disable=disable) as bar:
            for batch in edit_in_batches(
                self,
                requests,
                [image.size for image in images],
                images.__getitem__,
                settings,
                batch_size=batch_size,
                latents=latents,
                decode=decode,
                name=lambda place: _name(requests, place),
            ):
                made |= batch
                bar.update(len(batch))
        return [made[place] for place in range(len(requests))]

    def _plan(self, settings: SamplingSettings) -> Plan:
        name = self.scheduler if settings.scheduler is None else settings.scheduler
        return plan_sampling(name, self.schedule, settings.num_inference_steps, eta=settings.eta)

    def _as_latents(self, latents: ArrayLike, images: Sequence[Image.Image]) -> Latents:
        array, vae = np.asarray(latents, np.float32), self.vae.config
        for image in images:
            width, height = image.size
            grid = (height // vae.downscale, width // vae.downscale)
            wanted = (len(images), *grid, vae.latent_channels)
            if array.shape != wanted:
                raise ConfigError(f"latents of shape {array.shape}: these edits want {wanted}")
        return array

    @property
    def _reward_config(self) -> RewardConfig | None:
        reward = self.unet.config.reward
        return reward if reward is not None and reward.enabled else None

    def _networks(self) -> Networks:
        return Networks(self.unet, self.vae, self.text_encoder)


def _place(mesh: Mesh, name: str, weight: jax.ShapeDtypeStruct) -> jax.sharding.Sharding:
    """Where a weight is of a model whose language model is split."""
    of_llm = name.startswith(("model.", "lm_head."))
    return split_longest(mesh, weight.shape) if of_llm else copied(mesh)


def _all_made(found: Sequence[Made]) -> list[np.ndarray]:
    """The arrays of edits; the first error if there is any."""
    failed = [made for made in found if isinstance(made, DataError)]
    if failed:
        more = f" ({len(failed)} of {len(found)} failed)" if len(found) > 1 else ""
        raise DataError(f"{failed[0]}{more}")
    return [made for made in found if not isinstance(made, DataError)]


def _name(requests: Sequence[EditRequest], index: int) -> str:
    if id_ := requests[index].id:
        return f"edit {id_}"
    return f"edit {index}, counted from 0," if len(requests) > 1 else "the edit"


def _resized(
    image: Image.Image | Sequence[Image.Image], size: str | tuple[int, int], resolution: int
) -> list[Image.Image]:
    pictures = list(image) if isinstance(image, Sequence) else [image]
    for picture in pictures:
        if not isinstance(picture, Image.Image):
            raise ConfigError(f"image: want PIL pictures, got {type(picture).__name__}")
    upright = map(to_rgb, pictures)
    return [fit(p, target_size(p.size, size, resolution)) for p in upright]
