"""The written folder in JAX against the same folder in PyTorch, on random inputs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from mre_jax.errors import DataError
from mre_jax.io.json_file import to_bytes
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.lora import LoRAConfig
from mre_jax.models.reward import RewardInputs
from mre_jax.weights.files.folder import ModelFolder
from mre_jax.weights.files.source import TensorSource
from mre_jax.weights.load import load_component, load_text_encoder, load_unet, load_vae
from mre_jax.weights.model import REWARD_CLASS

TOLERANCE = 1e-4
REPORT = "verify.json"
WITHOUT_PYTORCH = ("qformer", "bim")
"""Components that no library of PyTorch's has, which are not compared."""

Outputs = dict[str, np.ndarray]


def verify(folder: Path) -> dict[str, float]:
    """Compare every component of `folder`, and write `verify.json` into it.

    One network after the other is in memory, in float32: 27 GB for a language model of 7B.

    Returns:
        By component and output the largest difference, relative to the output's largest value.

    Raises:
        DataError: when PyTorch is not installed, or the folder is not in its format.
    """
    try:
        import diffusers
        import torch
        import transformers
    except ImportError as error:
        raise DataError(
            f"--verify needs PyTorch ({error}); install it with pip install 'mre_jax[torch]'"
        ) from error
    opened = ModelFolder.open(folder)
    errors: dict[str, float] = {}
    # Accelerators multiply float32 with fewer bits by default.
    with jax.default_device(jax.devices("cpu")[0]):
        for name, path in opened.components.items():
            if name in WITHOUT_PYTORCH:
                continue
            ours, theirs = _CHECKS[name](path)
            errors |= {f"{name}.{key}": _error(ours[key], theirs[key]) for key in theirs}
    report = {
        "relative_error": errors,
        "tolerance": TOLERANCE,
        "versions": {
            "jax": jax.__version__,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
    }
    (folder / REPORT).write_bytes(to_bytes(report))
    return errors


def _unet(path: Path) -> tuple[Outputs, Outputs]:
    import torch

    ours = load_unet(path)
    config = ours.config
    random = np.random.default_rng(0)
    side = 2 ** (len(config.block_out_channels) + 1)
    sample = _normal(random, 2, side, side, config.in_channels)
    timestep = np.array([10.0, 700.0], np.float32)
    states = _normal(random, 2, 8, config.cross_attention_dim)
    rewarded = config.reward is not None and config.reward.enabled
    scores = np.array([[5, 3, 0], [1, 2, 4]], np.float32)
    text, pooled = _normal(random, *states.shape), _normal(random, 2, states.shape[-1])
    reward = RewardInputs(*map(jnp.asarray, (scores, text, pooled))) if rewarded else None
    out = _run(ours, "__call__", sample, timestep, states, reward)
    mine = {"sample": np.asarray(out)}
    del ours
    extra = {}
    if rewarded:
        extra = {
            "reward_scores": torch.from_numpy(scores),
            "reward_text_states": torch.from_numpy(text),
            "reward_text_pooled": torch.from_numpy(pooled),
        }
    model = _torch_unet(path)
    with torch.no_grad():
        theirs = model(
            _channels_first(sample), torch.from_numpy(timestep), torch.from_numpy(states), **extra
        ).sample
    return mine, {"sample": _channels_last(theirs)}


def _torch_unet(path: Path) -> Any:
    import torch
    from diffusers import UNet2DConditionModel

    model_class: Any = UNet2DConditionModel
    if json.loads((path / "config.json").read_text()).get("_class_name") == REWARD_CLASS:
        from mre_jax.pytorch import RewardUNet2DConditionModel

        model_class = RewardUNet2DConditionModel
    return model_class.from_pretrained(path, torch_dtype=torch.float32).eval()


def _vae(path: Path) -> tuple[Outputs, Outputs]:
    import torch
    from diffusers import AutoencoderKL

    ours = load_vae(path)
    random = np.random.default_rng(0)
    side = 2 ** (len(ours.config.block_out_channels) + 2)
    images = random.uniform(-1, 1, (1, side, side, 3)).astype(np.float32)
    latents = _normal(random, 1, 4, 4, ours.config.latent_channels)
    moments = _run(ours, "encode", images)
    mine = {
        "mean": np.asarray(moments.mean),
        "logvar": np.asarray(moments.logvar),
        "image": np.asarray(_run(ours, "decode", latents)),
    }
    del ours
    model = AutoencoderKL.from_pretrained(path, torch_dtype=torch.float32).eval()
    with torch.no_grad():
        posterior = model.encode(_channels_first(images)).latent_dist
        image = model.decode(_channels_first(latents)).sample
    theirs = {"mean": posterior.mean, "logvar": posterior.logvar, "image": image}
    return mine, {key: _channels_last(value) for key, value in theirs.items()}


def _text_encoder(path: Path) -> tuple[Outputs, Outputs]:
    import torch
    from transformers import CLIPTextModel

    ours = load_text_encoder(path)
    config = ours.config
    random = np.random.default_rng(0)
    # The last token of the vocabulary ends a text: both rules of pooling look for it.
    ids = random.integers(0, config.vocab_size - 1, (2, config.max_position_embeddings))
    ids[:, -1] = config.vocab_size - 1
    out = _run(ours, "__call__", ids.astype(np.int32))
    mine = {
        "last_hidden_state": np.asarray(out.last_hidden_state),
        "pooler_output": np.asarray(out.pooler_output),
    }
    del ours
    model = CLIPTextModel.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = model(torch.from_numpy(ids))
    return mine, {key: theirs[key].numpy() for key in mine}


def _llm(path: Path) -> tuple[Outputs, Outputs]:
    import torch

    ours = load_component("llm", path.parent)
    random = np.random.default_rng(0)
    length = min(16, ours.config.max_position_embeddings)
    ids = random.integers(0, ours.config.vocab_size, (2, length)).astype(np.int32)
    states = _run(ours.model, "__call__", ids)
    mine = {
        "last_hidden_state": np.asarray(states),
        "logits": np.asarray(_run(ours, "logits", states)),
    }
    config, adapters = ours.config, ours.lora
    del ours
    weights = _tensors(ModelFolder.open(path.parent).tensors("llm"))
    model = _torch_llama(weights, config, adapters)
    with torch.no_grad():
        theirs = model(torch.from_numpy(ids).long()).last_hidden_state
        logits = theirs @ weights["lm_head.weight"].T
    return mine, {"last_hidden_state": theirs.numpy(), "logits": logits.numpy()}


def _torch_llama(
    weights: Mapping[str, Any], config: LlamaConfig, adapters: LoRAConfig | None
) -> Any:
    """transformers' decoder, with the adapters beside its layers as peft has them."""
    import torch
    import transformers

    settings = transformers.LlamaConfig(**config.to_dict())
    with torch.device("meta"):  # else it would fill gigabytes with what is then replaced
        model = transformers.LlamaModel(settings)
    prefix = "model."
    names = [name for name in weights if name.startswith(prefix) and ".lora_" not in name]
    model.load_state_dict({n.removeprefix(prefix): weights[n] for n in names}, assign=True)
    model.rotary_emb = type(model.rotary_emb)(settings)  # its buffers are in no file
    for name, layer in model.named_modules():
        down = weights.get(f"{prefix}{name}.lora_A.weight")
        if adapters is not None and down is not None:
            up = adapters.scale * weights[f"{prefix}{name}.lora_B.weight"]
            layer.register_forward_hook(_adapted(down, up))
    return model.eval()


def _adapted(down: Any, up: Any) -> Callable[..., Any]:
    """What makes a layer's W x its W x + B A x."""
    return lambda _layer, inputs, out: out + inputs[0] @ down.T @ up.T


def _vision(path: Path) -> tuple[Outputs, Outputs]:
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    ours = load_component("vision", path.parent)
    config = ours.config
    random = np.random.default_rng(0)
    pixels = _normal(random, 1, config.image_size, config.image_size, config.num_channels)
    mine = {"patches": np.asarray(_run(ours, "__call__", pixels))}
    del ours
    settings = CLIPVisionConfig(**config.to_dict())
    settings.num_hidden_layers -= 1  # the states before the last layer are those of one less
    model = CLIPVisionModel(settings).eval()
    stored = _tensors(ModelFolder.open(path.parent).tensors("vision"))
    wanted = {name.removeprefix("vision_model."): name for name in model.state_dict()}
    weights = {wanted[name.removeprefix("vision_model.")]: x for name, x in stored.items()}
    model.load_state_dict(weights, strict=False)  # without the norm behind those states
    with torch.no_grad():
        theirs = model(_channels_first(pixels)).last_hidden_state[:, 1:]
    return mine, {"patches": theirs.numpy()}


def _projector(path: Path) -> tuple[Outputs, Outputs]:
    import torch

    ours = load_component("projector", path.parent)
    patches = _normal(np.random.default_rng(0), 1, 4, ours.config.mm_hidden_size)
    mine = {"states": np.asarray(_run(ours, "__call__", patches))}
    stored = _tensors(ModelFolder.open(path.parent).tensors("projector"))
    theirs = torch.nn.functional.linear(torch.from_numpy(patches), stored["weight"], stored["bias"])
    return mine, {"states": theirs.numpy()}


def _tensors(source: TensorSource) -> dict[str, Any]:
    """All of a file in float32."""
    import torch

    return {n: torch.from_numpy(source.read(n).astype(np.float32)) for n in source.tensors}


def _run(network: nnx.Module, method: str, *inputs: Any) -> Any:
    graph, state = nnx.split(network)
    inputs = jax.tree.map(jnp.asarray, inputs)
    # One run does not repay the compiler's efforts.
    run = jax.jit(
        lambda state, inputs: getattr(nnx.merge(graph, state), method)(*inputs),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    return run(state, inputs)


def _normal(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def _channels_first(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(rearrange(array, "b h w c -> b c h w").copy())


def _channels_last(tensor: Any) -> np.ndarray:
    return rearrange(tensor.numpy(), "b c h w -> b h w c")


def _error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


_CHECKS: dict[str, Callable[[Path], tuple[Outputs, Outputs]]] = {
    "unet": _unet,
    "vae": _vae,
    "text_encoder": _text_encoder,
    "llm": _llm,
    "vision": _vision,
    "projector": _projector,
}
