"""SmartEdit put together in PyTorch, from libraries' networks and the steps of the official script.

The weights are those of a model folder; the adapters are merged, there is no padding, and nothing
is shared with the package but the tokenizer and the templates' text.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaModel,
)

from mre_jax.models.bim import BIMConfig
from mre_jax.models.qformer import QFormerConfig
from mre_jax.smartedit.templates import Pair
from mre_jax.weights.opening import model_at
from tests.models.smartedit_reference import BIMReference, QFormerReference
from tests.smartedit.tiny_tokenizer import tiny_tokenizer

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class SmartEdit:
    """An edit of one picture, in float32.

    Args:
        folder: a SmartEdit's model folder with the small tokenizer of the tests.
        image_tokens: of its vocabulary.
    """

    def __init__(self, folder: Path, image_tokens: int):
        with model_at(folder) as model:
            parts = {
                name: (dict(part.config), _tensors(part.source))
                for name, part in model.components.items()
            }
        self.tokens = tiny_tokenizer(image_tokens)
        self.clip_tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.llm = _llama(*parts["llm"])
        self.vision = _clip_vision(*parts["vision"])
        self.project = torch.nn.Linear(*parts["projector"][1]["weight"].T.shape)
        self.project.load_state_dict(parts["projector"][1])
        self.qformer = _official(
            QFormerReference(QFormerConfig.from_dict(parts["qformer"][0])), parts["qformer"][1]
        )
        self.bim = _official(BIMReference(BIMConfig.from_dict(parts["bim"][0])), parts["bim"][1])
        self.unet = UNet2DConditionModel.from_config(parts["unet"][0])
        self.unet.load_state_dict(parts["unet"][1])
        self.vae = AutoencoderKL.from_config(parts["vae"][0])
        self.vae.load_state_dict(parts["vae"][1])
        self.text = CLIPTextModel(CLIPTextConfig(**parts["text_encoder"][0]))
        stored = parts["text_encoder"][1]
        prefix = "" if any(n.startswith("text_model.") for n in self.text.state_dict()) else None
        if prefix is None:
            stored = {name.removeprefix("text_model."): x for name, x in stored.items()}
        self.text.load_state_dict(stored)
        for module in (self.unet, self.vae, self.text):
            module.eval()

    @torch.no_grad()
    def condition(
        self, image: Image.Image, instruction: str, system: str, pair: Pair, grid: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """f' [1 t d], and v' [1 c h w] of a grid."""
        side = self.vision.config.image_size
        pixels = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) / 255
        pixels = torch.from_numpy(((pixels - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)
        states = self.vision(pixels[None], output_hidden_states=True).hidden_states
        patches = states[-2][:, 1:]

        images = "".join(f" <img_{number}>" for number in range(len(self.tokens.image_ids)))
        asked = pair.human.replace("[cap]", f'"<im_start> <img_0> <im_end>{instruction}"')
        said = pair.gpt.replace(" [img].", images)
        text = f"{system} USER: {asked} ASSISTANT: {said}</s>".replace("\n", "")
        ids = torch.tensor([self.tokens.encode(text)])
        first = self.tokens.image_ids[0]
        place = int((ids[0] == first).nonzero()[0, 0])
        embedded = self.llm.embed_tokens(ids)
        inputs = torch.cat(
            [embedded[:, :place], self.project(patches), embedded[:, place + 1 :]], dim=1
        )
        out = self.llm(inputs_embeds=inputs).last_hidden_state
        image_places = (ids[0] >= first).nonzero()[1:, 0] + patches.shape[1] - 1
        text_states = self.qformer(out[:, image_places])
        change, features = self.bim(text_states, patches, *grid)
        return text_states + 0.5 * change, features

    @torch.no_grad()
    def null(self) -> torch.Tensor:
        """CLIP's states of the empty prompt."""
        ids = self.clip_tokens("", padding="max_length", return_tensors="pt").input_ids
        return self.text(ids).last_hidden_state

    @torch.no_grad()
    def original(self, image: Image.Image) -> torch.Tensor:
        """The picture's latents, the mode and unscaled."""
        pixels = torch.from_numpy(np.asarray(image, np.float32) / 127.5 - 1).permute(2, 0, 1)
        return self.vae.encode(pixels[None]).latent_dist.mode()

    @torch.no_grad()
    def noise(
        self,
        latents: torch.Tensor,
        timestep: float,
        original: torch.Tensor,
        text: torch.Tensor,
        features: torch.Tensor,
    ) -> torch.Tensor:
        """The UNet's output in one branch, v' added to what comes out of conv_in."""
        hook = self.unet.conv_in.register_forward_hook(lambda module, given, out: out + features)
        sample = torch.cat([latents, original], dim=1)
        out = self.unet(sample, timestep, text).sample
        hook.remove()
        return out

    @torch.no_grad()
    def edit(
        self,
        image: Image.Image,
        condition: tuple[torch.Tensor, torch.Tensor],
        noises: list[np.ndarray],
        guidance_scale: float,
        image_guidance_scale: float,
    ) -> np.ndarray:
        """Pixels [H W 3] in [0, 1] after a step of Euler ancestral for each noise but the first.

        Args:
            noises: standard normal, [1 h w c]: to start from, then of each step.
        """
        text, features = condition
        original, null = self.original(image), self.null()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        kept = torch.cumprod(1 - betas, 0).numpy()
        steps = len(noises) - 1
        times = np.linspace(0, 999, steps)[::-1]
        sigmas = np.append(np.interp(times, np.arange(1000), ((1 - kept) / kept) ** 0.5), 0)
        start, *each = (torch.from_numpy(np.array(x)).permute(0, 3, 1, 2) for x in noises)
        latents = start * sigmas[0]
        for time, sigma, after, noise in zip(times, sigmas[:-1], sigmas[1:], each, strict=True):
            scaled = (latents / (sigma**2 + 1) ** 0.5).float()
            full, seen, none = (
                self.noise(scaled, float(time), picture, words, features)
                for picture, words in (
                    (original, text),
                    (original, null),
                    (torch.zeros_like(original), null),
                )
            )
            output = none + guidance_scale * (full - seen) + image_guidance_scale * (seen - none)
            up = (after**2 * (sigma**2 - after**2) / sigma**2) ** 0.5
            down = (after**2 - up**2) ** 0.5
            latents = latents + (down - sigma) * output + up * noise
        decoded = self.vae.decode((latents / self.vae.config.scaling_factor).float()).sample
        return (decoded[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1).numpy()


def _tensors(source: Any) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(source.read(name).astype(np.float32)) for name in source.tensors}


def _llama(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> LlamaModel:
    lora = config.pop("lora")
    merged = {}
    for name, tensor in tensors.items():
        if "lora_" in name or name == "lm_head.weight":
            continue
        down = tensors.get(name.replace("_proj.weight", "_proj.lora_A.weight"))
        if down is not None and down is not tensor:
            up = tensors[name.replace("_proj.weight", "_proj.lora_B.weight")]
            tensor = tensor + lora["lora_alpha"] / lora["r"] * (up @ down)
        merged[name.removeprefix("model.")] = tensor
    model = LlamaModel(LlamaConfig(**config, attn_implementation="eager"))
    model.load_state_dict(merged)
    return model.eval()


def _clip_vision(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> CLIPVisionModel:
    model = CLIPVisionModel(CLIPVisionConfig(**config))
    names = model.state_dict()
    if not any(name.startswith("vision_model.") for name in names):
        tensors = {name.removeprefix("vision_model."): x for name, x in tensors.items()}
    result = model.load_state_dict(tensors, strict=False)  # the last layer is in no SmartEdit
    assert not result.unexpected_keys
    return model.eval()


def _official(module: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The module with values that stand under the official names."""
    names = zip(module.state_dict(), module.official(), strict=True)
    module.load_state_dict({own: tensors[official] for own, official in names})
    return module.eval()
