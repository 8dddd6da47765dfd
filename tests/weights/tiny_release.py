"""A small SmartEdit in the files of its official release: views of one flat storage."""

import json
from pathlib import Path
from typing import Any

import torch

from tests.smartedit.tiny_tokenizer import tiny_model, tiny_tokenizer
from tests.weights import tiny

WIDTH, LAYERS, TEXT, PATCH = 32, 2, 64, 32
VOCABULARY = tiny_tokenizer(32).size
LLM = "LLM-15000/adapter_model.bin"
JOINED = "embeddings_qformer/checkpoint-15000_embeddings_qformer.bin"
BIM = "modulate-15000/adapter_model.bin"
UNET = "unet-15000/adapter_model.bin"
ADAPTERS = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.05,
    "bias": "none",
    "target_modules": ["q_proj", "v_proj"],
}
_BASE = "model.base_model.model."


def llm(width: int = WIDTH, rank: int = 2) -> dict[str, Any]:
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (VOCABULARY, width), "norm": (width,)}
    for index in range(LAYERS):
        layer = f"layers.{index}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{layer}self_attn.{name}"] = (width, width)
        for name in ("q_proj", "v_proj"):
            shapes[f"{layer}self_attn.{name}.lora_A.default"] = (rank, width)
            shapes[f"{layer}self_attn.{name}.lora_B.default"] = (width, rank)
        shapes[f"{layer}mlp.gate_proj"] = shapes[f"{layer}mlp.up_proj"] = (48, width)
        shapes[f"{layer}mlp.down_proj"] = (width, 48)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}{name}"] = (width,)
    made = {f"{_BASE}{name}.weight": _normal(shape) for name, shape in shapes.items()}
    for name in made:
        if "layers" in name and "lora" not in name:
            made[name] = made[name].to(torch.bfloat16)
    for index in range(LAYERS):
        frequencies = 1 / 10000 ** (torch.arange(0, 16, 2) / 16)
        made[f"{_BASE}layers.{index}.self_attn.rotary_emb.inv_freq"] = frequencies
    return made


def joined(width: int = WIDTH) -> dict[str, Any]:
    made = {
        "lm_head.weight": _normal((VOCABULARY, width)),
        "sd_query_tokens": _normal((1, 7, TEXT)),
    }
    made |= _dense("mm_projector", PATCH, width)
    made["sd_qformer.embeddings.position_ids"] = torch.arange(512)[None]
    made |= _norm("sd_qformer.embeddings.LayerNorm", TEXT)
    for index in range(3):
        layer = f"sd_qformer.encoder.layer.{index}."
        for name, context in (("attention", TEXT), ("crossattention", width)):
            if name == "crossattention" and index % 2:
                continue
            made |= _dense(f"{layer}{name}.self.query", TEXT, TEXT)
            made |= _dense(f"{layer}{name}.self.key", context, TEXT)
            made |= _dense(f"{layer}{name}.self.value", context, TEXT)
            made |= _dense(f"{layer}{name}.output.dense", TEXT, TEXT)
            made |= _norm(f"{layer}{name}.output.LayerNorm", TEXT)
        made |= _dense(f"{layer}intermediate_query.dense", TEXT, 40)
        made |= _dense(f"{layer}output_query.dense", 40, TEXT)
        made |= _norm(f"{layer}output_query.LayerNorm", TEXT)
    return made


def bim() -> dict[str, Any]:
    made = _dense("modulate_head", TEXT, PATCH)
    made["pe_layer.positional_encoding_gaussian_matrix"] = _normal((2, PATCH // 2))
    made |= _dense("dimension_reduction_head_qformer_out", PATCH, TEXT)
    zeroconv = "dimension_reduction_head_zeroconv"
    made |= {f"{zeroconv}.weight": _normal((32, PATCH, 1, 1)), f"{zeroconv}.bias": _normal((32,))}
    for index in range(2):
        layer = f"modulate_transformer.layers.{index}."
        made |= _attention(f"{layer}self_attn", PATCH)
        made |= _attention(f"{layer}cross_attn_token_to_image", PATCH // 2)
        made |= _attention(f"{layer}cross_attn_image_to_token", PATCH // 2)
        for number in range(1, 5):
            made |= _norm(f"{layer}norm{number}", PATCH)
        made |= _dense(f"{layer}mlp.lin1", PATCH, 24) | _dense(f"{layer}mlp.lin2", 24, PATCH)
    made |= _attention("modulate_transformer.final_attn_token_to_image", PATCH // 2)
    return made | _norm("modulate_transformer.norm_final_attn", PATCH)


def unet() -> dict[str, Any]:
    return {f"unet.{name}": tensor for name, tensor in tiny.make_unet().state_dict().items()}


def write(folder: Path, *, room: int = 0, **files: dict[str, Any]) -> Path:
    """A release; the float32 tensors of each file are views of one storage of all of them.

    Args:
        room: elements that the storage has besides.
        files: state dicts in place of the usual: llm, joined, bim, unet.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    parts = {
        LLM: files.get("llm") or llm(),
        JOINED: files.get("joined") or joined(),
        BIM: files.get("bim") or bim(),
        UNET: files.get("unet") or unet(),
    }
    flat, views = _flattened(parts, room)
    for name, state in views.items():
        (folder / name).parent.mkdir(parents=True)
        assert all(
            t.untyped_storage().size() == flat.untyped_storage().size()
            for t in state.values()
            if t.dtype == torch.float32
        )
        torch.save(state, folder / name)
    (folder / LLM).with_name("adapter_config.json").write_text(json.dumps(ADAPTERS))
    config = CLIPVisionConfig(
        hidden_size=PATCH,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
    )
    tiny.randomized(CLIPVisionModel, config).save_pretrained(folder / "clip-vit-large-patch14")
    (folder / "tokenizer.model").write_bytes(tiny_model())
    return folder


def _flattened(parts: dict[str, dict[str, Any]], room: int) -> tuple[Any, dict[str, Any]]:
    wide = [t for state in parts.values() for t in state.values() if t.dtype == torch.float32]
    flat = torch.zeros(sum(t.numel() for t in wide) + room)
    views: dict[str, dict[str, Any]] = {}
    start = 0
    for file, state in parts.items():
        views[file] = {}
        for name, tensor in state.items():
            if tensor.dtype == torch.float32:
                view = flat[start : start + tensor.numel()].view(tensor.shape)
                view.copy_(tensor)
                start += tensor.numel()
                tensor = view
            views[file][name] = tensor
    return flat, views


def _normal(shape: tuple[int, ...]) -> Any:
    _normal.calls = getattr(_normal, "calls", 0) + 1  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(_normal.calls)  # type: ignore[attr-defined]
    return torch.randn(shape, generator=generator) / max(1, shape[-1]) ** 0.5


def _dense(name: str, inner: int, outer: int) -> dict[str, Any]:
    return {f"{name}.weight": _normal((outer, inner)), f"{name}.bias": _normal((outer,))}


def _norm(name: str, width: int) -> dict[str, Any]:
    return {f"{name}.weight": 1 + 0.1 * _normal((width,)), f"{name}.bias": _normal((width,))}


def _attention(name: str, inner: int) -> dict[str, Any]:
    made = {}
    for letter in "qkv":
        made |= _dense(f"{name}.{letter}_proj", PATCH, inner)
    return made | _dense(f"{name}.out_proj", inner, PATCH)
