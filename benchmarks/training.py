"""Training speed of stage 2, beside the released step in PyTorch, on whatever this machine has.

    python benchmarks/training.py                                            # a CPU, small networks
    python benchmarks/training.py --size sd15 --dtype bfloat16 --batch 16 32 64   # a GPU or TPU

This project's side is a run's own step, moving average included, fed by its own loader from
prepared shards: pictures, or the cached latents and text states of pictures. The released step is
written from its description: for every picture pair it encodes both by the VAE, the instruction and
the reward text by CLIP, and for every batch the empty prompt; it asks a ViT-H whose answer nobody
uses; then come the UNet's forward and backward pass, clipping and AdamW. Its inputs lie ready on
the device. Weights are random, and neither side tokenizes. On a CPU with other work, compare the
processor time.
"""

import argparse
import dataclasses
import functools
import gc
import importlib.resources
import importlib.util
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from loader import make_triplets, write_shards
from speed import make

from mre_jax.data.batches.augment import Augmentation
from mre_jax.data.batches.batch import Batch
from mre_jax.data.batches.device import prefetch
from mre_jax.data.batches.loader import Loader
from mre_jax.data.cache.description import Cache, TextCache
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.clip_text import CLIPTextConfig, CLIPTextModel
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.models.vae import AutoencoderKL, VAEConfig
from mre_jax.reward.config import RewardConfig
from mre_jax.training import flops
from mre_jax.training.config import TrainConfig
from mre_jax.training.inputs import Encoders, Frozen
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import Layout, make_mesh
from mre_jax.training.pretrained import compute_of
from mre_jax.training.state import Network, fresh_state, parameters_of
from mre_jax.training.step import make_step
from mre_jax.training.trained import TrainedNetworks

TOY_EDITOR = importlib.resources.files("mre_jax.toyworld") / "editor"
EXAMPLES = 256
RELEASED = RewardConfig(form="released")


class Size(NamedTuple):
    """The networks of one size.

    Attributes:
        pixels: side of the pictures.
        vision: of transformers' `CLIPVisionConfig`.
    """

    pixels: int
    unet: UNetConfig
    vae: VAEConfig
    text: CLIPTextConfig
    vision: Mapping[str, Any]


class Speed(NamedTuple):
    """What was measured of one way to train.

    Attributes:
        rate: examples a second, of the fastest block of steps.
        busy: processor seconds of this process for an example, of the best block.
        waited: share of the time of all blocks in which no batch was ready; None without a loader.
        first: seconds of the first step.
    """

    rate: float
    busy: float
    waited: float | None
    first: float


Step = Callable[[], float]
"""Takes a step; returns the seconds that it waited for its batch."""


def main() -> None:
    """Measures each way to train and prints a table for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="small", help="(%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch", type=int, nargs="+", default=[4], help="(4)")
    parser.add_argument("--steps", type=int, default=4, help="of a block (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="blocks (%(default)s)")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--compile", action="store_true", help="torch.compile, which it had not")
    parser.add_argument(
        "--no-average", action="store_true", help="no moving average: a copy of the UNet less"
    )
    args = parser.parse_args()
    size, device = SIZES[args.size](), jax.devices()[0]
    print(f"{device.device_kind}, {os.cpu_count()} cores, jax {jax.__version__}")
    print(f"{args.size}, {size.pixels} px, {args.dtype}, fastest of {args.repeats} blocks", end="")
    print(f" of {args.steps} steps")
    for batch in args.batch:
        print(f"\n{f'batch {batch}':<44}{'images/s':>10}{'TFLOP/s':>9}{'of peak':>9}", end="")
        print(f"{'waiting':>9}{'CPU ms each':>13}{'first':>9}")
        with tempfile.TemporaryDirectory() as folder:
            for name, begin in make_rows(Path(folder), size, batch, args):
                if args.only in name:
                    show(name, measure(begin, batch, args), size, device)


def make_rows(
    folder: Path, size: Size, batch: int, args: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], Step]]]:
    """Name, and what sets up, of each way to train."""
    latents = size.pixels // size.vae.downscale
    shape = (latents, latents, size.vae.latent_channels)
    cache = Cache("0" * 64, "bfloat16", size.pixels, "bicubic", shape)
    tokens, width = size.text.max_position_embeddings, size.text.hidden_size
    caches = {
        "mre_jax, cached latents and texts": dataclasses.replace(
            cache, text=TextCache("0", "0", tokens, width)
        ),
        "mre_jax, cached latents": cache,
        "mre_jax, pictures": None,
    }
    triplets = list(make_triplets(EXAMPLES, size.pixels))
    for number, (name, kept) in enumerate(caches.items()):
        source = write_shards(folder / str(number), triplets, kept)
        loader = Loader(
            [source],
            batch,
            seed=0,
            augmentation=Augmentation(size.pixels, filter="bicubic"),
            tokenize=lambda texts: np.zeros((len(texts), tokens), np.int32),
        )
        yield name, functools.partial(our_step, size, loader, args)
    if importlib.util.find_spec("torch"):
        for name, with_vision in (("without ViT-H", False), ("whole", True)):
            begin = functools.partial(released_step, size, batch, args, with_vision)
            yield f"released step in PyTorch, {name}", begin


def measure(begin: Callable[[], Step], batch: int, args: argparse.Namespace) -> Speed:
    """Times blocks of steps, after one that compiles; gives the memory back."""
    step = begin()
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    step()  # what is compiled or read ahead late
    blocks, busy, waited = [], [], 0.0
    for _ in range(args.repeats):
        start, processor = time.perf_counter(), time.process_time()
        waited += sum(step() for _ in range(args.steps))
        blocks.append(time.perf_counter() - start)
        busy.append(time.process_time() - processor)
    share = None if math.isnan(waited) else waited / sum(blocks)
    del step
    gc.collect()
    jax.clear_caches()
    examples = batch * args.steps
    return Speed(examples / min(blocks), min(busy) / examples, share, first)


def show(name: str, speed: Speed, size: Size, device: Any) -> None:
    """Prints a row; arithmetic is that of the UNet alone, whatever else is computed."""
    side = size.pixels // size.vae.downscale
    rate, peak = speed.rate * flops.training(size.unet, side, side), flops.peak(device)
    share = "-" if peak is None else f"{rate / peak:.1%}"
    waited = "-" if speed.waited is None else f"{speed.waited:.1%}"
    print(f"{name:<44}{speed.rate:>10.3g}{rate / 1e12:>9.3f}{share:>9}", end="")
    print(f"{waited:>9}{1000 * speed.busy:>13.1f}{speed.first:>8.1f}s", flush=True)


def our_step(size: Size, loader: Loader, args: argparse.Namespace) -> Step:
    """A run's step on the loader's batches, on one device, the next one being laid ready."""
    config = train_config(size, loader, args)
    layout = Layout.of(config.mesh, make_mesh(config.mesh, jax.devices()[:1]))
    compute, optimizer = compute_of(config.model), make_optimizer(config.optimizer, config.steps)
    unet = make(UNet, size.unet, compute)
    vae = make(AutoencoderKL, size.vae, compute, compute.dtype)
    text = make(CLIPTextModel, size.text, compute, compute.dtype)
    params = jax.device_put(parameters_of(unet), layout.replicated)
    state = fresh_state(params, optimizer, layout, ema=config.model.ema_decay is not None)
    null_text = np.zeros((size.text.max_position_embeddings, size.text.hidden_size), compute.dtype)
    frozen = Frozen(parameters_of(vae), parameters_of(text), null_text)
    encoders = Encoders(Network.of(vae), Network.of(text), size.vae.scaling_factor)
    schedule = NoiseSchedule.stable_diffusion()
    networks = TrainedNetworks({"unet": Network.of(unet)})
    train = make_step(config, networks, encoders, schedule, optimizer, layout)
    frozen = jax.device_put(frozen, layout.replicated)
    batches: Iterator[Batch] = prefetch(loader.batches(), layout.mesh)
    del unet, params
    told: Any = None

    def step() -> float:
        nonlocal state, told
        start = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - start
        with jax.set_mesh(layout.mesh):
            state, metrics = train(state, frozen, batch)
        # As in a run: the device has the next step before the host looks at this one.
        jax.block_until_ready(told)
        told = metrics
        return waited

    return step


def train_config(size: Size, loader: Loader, args: argparse.Namespace) -> TrainConfig:
    """Stage 2 at this size."""
    model = {
        "init_from": "random weights",
        "in_channels": size.unet.in_channels,
        "reward": RELEASED.to_dict(),
        "compute_dtype": args.dtype,
        "ema_decay": None if args.no_average else 0.9999,
    }
    data = {
        "paths": [str(source.path) for source in loader.sources],
        "batch_size": loader.batch_size,
        "resolution": size.pixels,
    }
    return TrainConfig.from_dict({"name": args.size, "steps": 1000, "model": model, "data": data})


def released_step(size: Size, batch: int, args: argparse.Namespace, with_vision: bool) -> Step:
    """The released code's step, as it is described."""
    import torch
    from torch.nn.functional import mse_loss

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, args.dtype)
    unet, vae, text, vision = (
        None if network is None else network.to(device)
        for network in torch_networks(size, with_vision)
    )
    for network in (vae, text, vision):
        if network is not None:
            network.to(dtype).requires_grad_(False)
    predict = torch.compile(unet) if args.compile else unet
    optimizer = torch.optim.AdamW(unet.parameters(), 5e-5, weight_decay=1e-2)
    signal = torch.tensor(np.asarray(NoiseSchedule.stable_diffusion().alphas_cumprod))
    signal = signal.to(device, torch.float32)
    pictures = torch.rand(2, batch, 3, size.pixels, size.pixels, device=device, dtype=dtype)
    if with_vision:
        seen = torch.rand(batch, 3, *[size.vision["image_size"]] * 2, device=device, dtype=dtype)
    tokens = torch.zeros(batch, size.text.max_position_embeddings, dtype=int, device=device)
    scores = torch.full((batch, 3), 5.0, device=device)

    def inputs() -> tuple[Any, ...]:
        edited, original = 2 * pictures - 1
        latents = vae.encode(edited).latent_dist.sample() * size.vae.scaling_factor
        image = vae.encode(original).latent_dist.mode()
        instruction = text(tokens).last_hidden_state
        reward = text(tokens)
        empty = text(tokens[:1]).last_hidden_state
        if vision is not None:
            vision(pixel_values=seen)
        chance = torch.rand(batch, 1, 1, device=device)
        instruction = torch.where(chance < 0.1, empty, instruction)
        image = image * ((chance < 0.05) | (chance >= 0.15))[..., None]
        return latents, image, instruction, reward.last_hidden_state, reward.pooler_output

    def step() -> float:
        with torch.no_grad():
            latents, image, instruction, states, pooled = inputs()
            noise = torch.randn_like(latents)
            times = torch.randint(len(signal), (batch,), device=device)
            level = signal[times].to(dtype)[:, None, None, None]
            noisy = level.sqrt() * latents + (1 - level).sqrt() * noise
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            output = predict(
                torch.cat([noisy, image], 1),
                times,
                instruction,
                reward_scores=scores,
                reward_text_states=states,
                reward_text_pooled=pooled,
            ).sample
        mse_loss(output.float(), noise.float()).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return math.nan

    return step


def torch_networks(size: Size, with_vision: bool) -> tuple[Any, Any, Any, Any]:
    """UNet, VAE, text encoder, and image encoder or None."""
    from diffusers import AutoencoderKL as TorchVAE
    from transformers import CLIPTextConfig as TorchTextConfig
    from transformers import CLIPTextModel as TorchText
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    from transformers import logging as messages

    from mre_jax.pytorch.reward_unet import RewardUNet2DConditionModel

    messages.set_verbosity_error()
    vision = None
    if with_vision:
        vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**size.vision))
    text = TorchTextConfig(**size.text.to_dict(), bos_token_id=0)
    return (
        RewardUNet2DConditionModel(**size.unet.to_dict()),
        TorchVAE(**size.vae.to_dict()),
        TorchText(text),
        vision,
    )


def sd15(divisor: int = 1) -> Size:
    """Stable Diffusion 1.5's networks and ViT-H/14, every width divided."""

    def divided(*widths: int) -> tuple[int, ...]:
        return tuple(width // divisor for width in widths)

    width, inner = divided(768, 3072)
    groups = 32 // divisor
    return Size(
        pixels=256,
        unet=UNetConfig(
            block_out_channels=divided(320, 640, 1280, 1280),
            cross_attention_dim=width,
            norm_num_groups=groups,
            reward=RELEASED,
        ),
        vae=VAEConfig(block_out_channels=divided(128, 256, 512, 512), norm_num_groups=groups),
        text=CLIPTextConfig(hidden_size=width, intermediate_size=inner, projection_dim=width),
        vision=vit_h(divisor),
    )


def vit_h(divisor: int) -> Mapping[str, Any]:
    """ViT-H/14, every width divided."""
    return {
        "hidden_size": 1280 // divisor,
        "intermediate_size": 5120 // divisor,
        "projection_dim": 1024 // divisor,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
    }


def toy() -> Size:
    """The demo's networks, with an image encoder a little less out of proportion than ViT-H."""

    def config(name: str) -> Any:
        return json.loads((TOY_EDITOR / name / "config.json").read_text())

    unet = UNetConfig.from_dict(config("unet"))
    vae = VAEConfig.from_dict(config("vae"))
    return Size(
        pixels=vae.sample_size,
        unet=dataclasses.replace(unet, reward=RELEASED),
        vae=vae,
        text=CLIPTextConfig.from_dict(config("text_encoder")),
        vision=vit_h(16),
    )


SIZES = {"toy": toy, "small": functools.partial(sd15, 4), "sd15": sd15}


if __name__ == "__main__":
    main()
