"""Speed beside PyTorch, in one process on one device: the UNet, a training step, a whole edit.

    python benchmarks/speed.py                    # on a CPU: float32 against float32
    python benchmarks/speed.py --dtype bfloat16   # on a GPU: against torch.compile

Networks have Stable Diffusion 1.5's sizes and random weights. The two frameworks are measured one
after the other, since a training step of both does not fit into 24 GB, and the fastest run of each
counts. Without torch, and on a TPU, only this project's side is measured.
"""

import argparse
import gc
import importlib.util
import platform
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mre_jax.diffusion.guidance import plan_guidance
from mre_jax.diffusion.noise import item_keys
from mre_jax.diffusion.sampling import plan_sampling
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.editing.program import EditBatch, Networks, edit
from mre_jax.models.clip_text import CLIPTextConfig, CLIPTextModel
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.models.vae import AutoencoderKL, VAEConfig

PARTS = ("forward", "train", "edit")
TOKENS, WIDTH, PIXELS_PER_LATENT = 77, 768, 8
Run = Callable[[], object]


def main() -> None:
    """Measures the parts that were asked for and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="(%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--pixels", type=int, default=256, help="side of the picture (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="of the edit (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--attention", default="auto", help="(%(default)s)")
    parser.add_argument("--no-torch", action="store_true", help="measure this project alone")
    args = parser.parse_args()
    compute = Compute(dtype=jnp.dtype(args.dtype), attention=args.attention)
    with_torch = not args.no_torch and bool(importlib.util.find_spec("torch"))
    device = jax.devices()[0]
    print(
        f"{device.device_kind}, {platform.processor() or platform.machine()}, jax {jax.__version__}"
    )
    print(f"batch {args.batch}, {args.pixels} px, {args.dtype}, fastest of {args.repeats}\n")
    print(f"{'part':<10}{'mre_jax':>10}{'PyTorch':>10}{'ratio':>8}   first call")
    for part in args.parts.split(","):
        first, ours = measure(lambda part=part: OURS[part](args, compute), args.repeats)
        row = f"{part:<10}{ours:>9.3f}s"
        if with_torch:
            _, theirs = measure(lambda part=part: make_theirs(part, args), args.repeats)
            row += f"{theirs:>9.3f}s{ours / theirs:>8.2f}"
        else:
            row += f"{'-':>10}{'-':>8}"
        print(f"{row}   {first:.1f}s", flush=True)


def measure(make_run: Callable[[], Run], repeats: int) -> tuple[float, float]:
    """Seconds of the first call, and the fewest of the others; gives the memory back."""
    run = make_run()
    first = seconds(run)
    best = min(seconds(run) for _ in range(repeats))
    del run
    gc.collect()
    jax.clear_caches()
    return first, best


def forward(args: argparse.Namespace, compute: Compute) -> Run:
    """One evaluation of the UNet."""
    graph, state = nnx.split(make(UNet, UNetConfig(), compute))

    @jax.jit
    def apply(state, sample, timestep, states):
        return nnx.merge(graph, state)(sample, timestep, states)

    inputs = unet_inputs(args)
    return lambda: jax.block_until_ready(apply(state, *inputs))


def train(args: argparse.Namespace, compute: Compute) -> Run:
    """Loss, gradient and AdamW on float32 parameters."""
    graph, params = nnx.split(make(UNet, UNetConfig(), Compute(compute.dtype, compute.attention)))
    optimizer = optax.adamw(5e-5, weight_decay=1e-2)
    inputs = unet_inputs(args)
    target = inputs[0][..., :4]

    def loss(params):
        return jnp.mean((nnx.merge(graph, params)(*inputs) - target) ** 2)

    @jax.jit
    def begin(params):
        return params, optimizer.init(params)

    def step(carry):
        params, moments = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    step = jax.jit(step, donate_argnums=0)
    carry = begin(params)
    del params

    def run() -> None:
        nonlocal carry
        carry, value = step(carry)
        value.block_until_ready()

    return run


def edit_pictures(args: argparse.Namespace, compute: Compute) -> Run:
    """Encoding, Euler steps under both guidances, decoding."""
    networks = Networks(
        make(UNet, UNetConfig(), compute, compute.dtype),
        make(AutoencoderKL, VAEConfig(), compute, compute.dtype),
        make(CLIPTextModel, CLIPTextConfig(), compute, compute.dtype),
    )
    graphs, states = networks.split()
    ids = np.zeros((args.batch, TOKENS), np.int32)
    batch = EditBatch(
        pixels=np.zeros((args.batch, args.pixels, args.pixels, 3), np.uint8),
        prompt_ids=ids,
        negative_ids=ids,
        keys=item_keys([0] * args.batch, [""] * args.batch),
        guidance=plan_guidance("instruct_pix2pix", [7.5] * args.batch, 1.5),
    )
    plan = plan_sampling("euler", NoiseSchedule.stable_diffusion(), args.steps)
    return lambda: jax.block_until_ready(edit(states, batch, plan, graphs=graphs))


def make(network, config, compute: Compute, dtype=jnp.float32):
    """The network with random weights of about the right scale, quickly."""
    module = nnx.eval_shape(lambda: network(config, compute=compute, rngs=make_rngs(0)))
    random = np.random.default_rng(0)

    def fill(leaf):
        scale = max(1, np.prod(leaf.shape[:-1])) ** -0.5
        return jnp.asarray(random.standard_normal(leaf.shape, np.float32) * scale, dtype)

    nnx.update(module, jax.tree.map(fill, nnx.state(module)))
    return module


def unet_inputs(args: argparse.Namespace) -> tuple[jax.Array, ...]:
    """Eight channels of latents, a timestep, text states."""
    side = args.pixels // PIXELS_PER_LATENT
    random = np.random.default_rng(0)
    sample = random.standard_normal((args.batch, side, side, 8), np.float32)
    states = random.standard_normal((args.batch, TOKENS, WIDTH), np.float32)
    return jnp.asarray(sample), jnp.full(args.batch, 500.0), jnp.asarray(states)


def make_theirs(part: str, args: argparse.Namespace) -> Run:
    """The same work in PyTorch with diffusers and transformers."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, args.dtype)
    sample, timestep, states = (torch.from_numpy(np.array(x)).to(device) for x in unet_inputs(args))
    sample = sample.permute(0, 3, 1, 2).contiguous()
    unet = torch_unet().to(device)
    compiled = torch.compile(unet) if device == "cuda" else unet

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    if part == "edit":
        return torch_edit(args, unet.to(dtype), device)
    if part == "forward":
        unet.to(dtype)

        @torch.no_grad()
        def run() -> None:
            compiled(sample.to(dtype), timestep, states.to(dtype))
            wait()

        return run
    optimizer = torch.optim.AdamW(unet.parameters(), 5e-5, weight_decay=1e-2, fused=True)

    def step() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            output = compiled(sample, timestep, states).sample
        torch.nn.functional.mse_loss(output.float(), sample[:, :4]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        wait()

    return step


def torch_unet():
    """diffusers' UNet of InstructPix2Pix."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(sample_size=64, in_channels=8, cross_attention_dim=WIDTH)


def torch_edit(args: argparse.Namespace, unet, device: str) -> Run:
    """diffusers' pipeline from prompt states, since the tokenizer is not what is measured."""
    import torch
    from diffusers import AutoencoderKL as TorchVAE
    from diffusers import EulerDiscreteScheduler, StableDiffusionInstructPix2PixPipeline
    from PIL import Image
    from transformers import CLIPTextConfig as TorchConfig
    from transformers import CLIPTextModel as TorchText

    config = VAEConfig().to_dict()
    config.pop("sample_size")
    text_encoder = TorchText(
        TorchConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    )
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=TorchVAE(**config).to(device, unet.dtype),
        text_encoder=text_encoder.to(device, unet.dtype),
        tokenizer=None,
        unet=torch.compile(unet) if device == "cuda" else unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    ids = torch.zeros(args.batch, TOKENS, dtype=torch.long, device=device)
    picture = Image.new("RGB", (args.pixels, args.pixels))

    @torch.no_grad()
    def run() -> None:
        states, null_states = (text_encoder(ids).last_hidden_state for _ in range(2))
        pipeline(
            image=[picture] * args.batch,
            prompt_embeds=states,
            negative_prompt_embeds=null_states,
            num_inference_steps=args.steps,
            output_type="np",
        )

    return run


def seconds(run: Run) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


OURS = {"forward": forward, "train": train, "edit": edit_pictures}


if __name__ == "__main__":
    main()
