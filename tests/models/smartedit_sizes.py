"""Sizes of SmartEdit's parts, small and fitting together: the tests' one home for them."""

from mre_jax.models.bim import BIMConfig
from mre_jax.models.clip_vision import CLIPVisionConfig
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.lora import LoRAConfig
from mre_jax.models.projector import ProjectorConfig
from mre_jax.models.qformer import QFormerConfig

LLAMA = LlamaConfig(
    vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
)
LORA = LoRAConfig(r=2, lora_alpha=4)
VISION = CLIPVisionConfig(
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=16,
    patch_size=4,
)
PROJECTOR = ProjectorConfig(mm_hidden_size=32, hidden_size=16)
QFORMER = QFormerConfig(
    query_length=7,
    hidden_size=12,
    intermediate_size=20,
    num_hidden_layers=3,
    num_attention_heads=3,
    encoder_width=16,
)
BIM = BIMConfig(text_width=12, embedding_dim=32, num_heads=2, mlp_dim=48, out_channels=8)
