"""A small SmartEdit with random weights, as a model folder.

It has every part and file of the real one, and edits nothing sensibly. Its language model is
stored in the dtypes of the released one. It is made without PyTorch, and the parts that PyTorch's
libraries know load there.
"""

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mre_jax.io.json_file import to_bytes
from mre_jax.reward.config import RewardConfig
from mre_jax.toyworld.pretraining.tokenizer import tokenizer_files
from mre_jax.weights.files.source import BFLOAT16, TensorInfo, TensorSource
from mre_jax.weights.model import REWARD_CLASS, Component, PretrainedModel
from mre_jax.weights.names.rule import expected_tensors
from mre_jax.weights.save import save_model
from mre_jax.weights.surroundings import with_scheduler
from tests.smartedit.tiny_tokenizer import tiny_model, tiny_tokenizer

WIDTH = 32
"""Of every state, and of CLIP's patches."""
IMAGE_TOKENS = 4
IMAGE_SIZE, PATCH_SIZE = 24, 6
"""Of the vision tower: 16 patches."""
TEMPLATES = """\
System: A user and an assistant talk about pictures.

1.
Human: Please change the picture as the words say: [cap]
GPT: Sure, here is the new picture [img].

2.
Human: Edit this image according to my instruction, [cap].
GPT: Of course, the edited image is [img].
"""
"""For `Templates.read`; the project's own are too long for so few tokens."""

_TOKENS, _LATENTS, _CHANNELS = 77, 4, (16, 32)


@functools.cache
def tiny_smartedit(reward: bool = False) -> Path:
    """The folder of a small SmartEdit, made once in a run of the tests; not to be written to.

    Args:
        reward: with a reward condition, in the paper's form.
    """
    condition = RewardConfig(num_attention_heads=4).to_dict() if reward else None
    folder = Path(tempfile.mkdtemp(prefix="tiny-smartedit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_tiny_smartedit(folder / "model", reward=condition)


def make_tiny_smartedit(
    folder: Path, *, reward: Mapping[str, Any] | None = None, seed: int = 0
) -> Path:
    """Writes a small SmartEdit; returns `folder`.

    Args:
        folder: new.
        reward: `RewardConfig.to_dict()`, with 4 heads or what else divides 16; None is plain
            SmartEdit.
        seed: of the weights.
    """
    components = {
        name: _component(name, config, seed) for name, config in configs(reward=reward).items()
    }
    files, _ = with_scheduler(tokenizer_files((), _TOKENS))
    files |= {
        "llm_tokenizer/tokenizer.model": tiny_model(),
        "llm_tokenizer/templates.txt": TEMPLATES.encode(),
    }
    save_model(PretrainedModel("tiny", "smartedit", "only", components, files), folder)
    return folder


def write_templates(path: Path) -> Path:
    """A file of templates for the small tokenizer."""
    path.write_text(TEMPLATES)
    return path


def configs(*, reward: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """The config.json of every component."""
    unet: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 8,
        "in_channels": 2 * _LATENTS,
        "out_channels": _LATENTS,
        "block_out_channels": [*_CHANNELS],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": WIDTH,
        "norm_num_groups": 8,
    }
    if reward is not None:
        unet |= {"_class_name": REWARD_CLASS, "reward": {**reward}}
    vocabulary = 2 * 256 + 2
    return {
        "unet": unet,
        "vae": {
            "_class_name": "AutoencoderKL",
            "block_out_channels": [8, 8, 16, 16],
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "layers_per_block": 1,
            "latent_channels": _LATENTS,
            "norm_num_groups": 4,
            "sample_size": 64,
        },
        "text_encoder": {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "vocab_size": vocabulary,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": _TOKENS,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
        },
        "llm": {
            "model_type": "llama",
            "vocab_size": tiny_tokenizer(IMAGE_TOKENS).size,
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6,
            "lora": {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "bias": "none",
                "r": 2,
                "lora_alpha": 4,
                "lora_dropout": 0.05,
                "target_modules": ["q_proj", "v_proj"],
            },
        },
        "vision": {
            "model_type": "clip_vision_model",
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
        },
        "projector": {
            "model_type": "smartedit_projector",
            "mm_hidden_size": WIDTH,
            "hidden_size": WIDTH,
        },
        "qformer": {
            "model_type": "smartedit_qformer",
            "query_length": _TOKENS,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "encoder_width": WIDTH,
        },
        "bim": {
            "model_type": "smartedit_bim",
            "text_width": WIDTH,
            "embedding_dim": WIDTH,
            "num_heads": 2,
            "mlp_dim": 48,
            "out_channels": _CHANNELS[0],
        },
    }


class _Random(TensorSource):
    """A network's tensors, each from the seed and its name; none is 0 or 1 throughout."""

    def __init__(self, component: str, shapes: Mapping[str, Any], seed: int):
        self.origin = component
        self._seed = f"{seed} {component}"
        self.tensors = {
            name: TensorInfo(tuple(shape.shape), _stored(component, name))
            for name, shape in shapes.items()
        }

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        info = self.tensors[name]
        digest = hashlib.sha256(f"{self._seed} {name}".encode()).digest()
        drawn = np.random.default_rng(int.from_bytes(digest[:8], "little")).normal(size=info.shape)
        if len(info.shape) > 1:
            inputs = int(np.prod(info.shape[1:]))
            drawn /= inputs**0.5
        else:
            drawn = 0.1 * drawn + name.endswith(".weight")
        return drawn.astype(info.dtype)


def _component(name: str, config: Mapping[str, Any], seed: int) -> Component:
    part = Component(name, config, to_bytes(config), _Random(name, {}, seed))
    shapes = expected_tensors(part.network())
    return Component(name, config, part.text, _Random(name, shapes, seed))


def _stored(component: str, name: str) -> np.dtype:
    """As in the released files: LLaMA's own layers in bfloat16, all that was trained in float32."""
    of_llama = component == "llm" and name.startswith(("model.layers.", "model.norm."))
    return BFLOAT16 if of_llama and ".lora_" not in name else np.dtype(np.float32)
