"""CLIP and DINO with random weights, small, in the files that users have of them."""

from pathlib import Path

from tests.parity import randomize_torch
from tests.weights.tiny import write_tokenizer

SIDE = 32
PROCESSOR = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
# Heads of width 64, which the file does not show.
DINO = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}


def write_clip(folder: Path):
    """Writes a folder of transformers, tokenizer and preprocessor included; returns the model."""
    import transformers

    write_tokenizer(folder)
    shared = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 24,
    }
    text = {"vocab_size": 40, "max_position_embeddings": 16, "eos_token_id": 39, **shared}
    vision = {"image_size": SIDE, "patch_size": 8, **shared}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    model = randomize_torch(transformers.CLIPModel(config).eval())
    model.save_pretrained(folder)
    transformers.CLIPImageProcessorPil(**PROCESSOR).save_pretrained(folder)
    return model


def make_dino(**config):
    """transformers' ViT without its pooler, with random weights."""
    import transformers

    config = transformers.ViTConfig(**config, layer_norm_eps=1e-6)
    return randomize_torch(transformers.ViTModel(config, add_pooling_layer=False).eval())


def released_dino(model):
    """The state dict of the authors' file, from the tensors of transformers' module."""
    import torch

    theirs = model.state_dict()
    released = {
        "cls_token": theirs["embeddings.cls_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
        "patch_embed.proj.weight": theirs["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": theirs["embeddings.patch_embeddings.projection.bias"],
    }
    for leaf in ("weight", "bias"):
        released[f"norm.{leaf}"] = theirs[f"layernorm.{leaf}"]
        for i in range(len(model.layers)):
            ours, layer = f"blocks.{i}", f"layers.{i}"
            parts = [theirs[f"{layer}.attention.{part}_proj.{leaf}"] for part in "qkv"]
            released[f"{ours}.attn.qkv.{leaf}"] = torch.cat(parts)
            released[f"{ours}.attn.proj.{leaf}"] = theirs[f"{layer}.attention.o_proj.{leaf}"]
            released[f"{ours}.norm1.{leaf}"] = theirs[f"{layer}.layernorm_before.{leaf}"]
            released[f"{ours}.norm2.{leaf}"] = theirs[f"{layer}.layernorm_after.{leaf}"]
            for fc in ("mlp.fc1", "mlp.fc2"):
                released[f"{ours}.{fc}.{leaf}"] = theirs[f"{layer}.{fc}.{leaf}"]
    return released
