import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.models.layers import Compute
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.lora import LoRAConfig
from mre_jax.models.splice import image_token_states, splice_image
from mre_jax.smartedit.losses import language_loss
from mre_jax.smartedit.prompt import IGNORED
from tests.parity import load_torch, randomize_torch, relative_error

RANDOM = np.random.default_rng(0)
LOGITS = (3 * RANDOM.normal(size=(2, 7, 11))).astype(np.float32)
LABELS = np.where(RANDOM.random((2, 7)) < 0.6, RANDOM.integers(0, 11, (2, 7)), IGNORED)


def _theirs(logits, labels):
    torch = pytest.importorskip("torch")
    flat = logits[:, :-1].reshape(-1, logits.shape[-1])
    return torch.nn.functional.cross_entropy(flat, labels[:, 1:].reshape(-1), ignore_index=IGNORED)


def test_the_loss_and_its_gradient_are_pytorchs():
    torch = pytest.importorskip("torch")
    logits = torch.from_numpy(LOGITS).requires_grad_()
    theirs = _theirs(logits, torch.from_numpy(LABELS))
    theirs.backward()
    ours, gradient = jax.value_and_grad(language_loss)(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    assert relative_error(ours, theirs) < 1e-5
    assert relative_error(gradient, logits.grad) < 1e-5


def test_bfloat16_logits_are_summed_in_float32():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    exact = language_loss(logits.astype(jnp.float32), jnp.asarray(LABELS))
    loss = language_loss(logits, jnp.asarray(LABELS))
    assert loss.dtype == jnp.float32 and loss == exact


def test_nothing_predicted_is_no_loss_and_no_gradient():
    labels = jnp.full((2, 7), IGNORED).at[:, 0].set(3)
    loss, gradient = jax.value_and_grad(language_loss)(jnp.asarray(LOGITS), labels)
    assert loss == 0 and not gradient.any()


def test_gradients_of_text_and_states_are_pytorchs_through_picture_and_adapters():
    """Of the language loss and of what the image tokens' states lead to, at every parameter."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    lora = LoRAConfig(r=2, lora_alpha=4)
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
    )
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config.to_dict()))
    adapters = peft.LoraConfig(**{**lora.to_dict(), "lora_dropout": 0.0})
    reference = randomize_torch(peft.inject_adapter_in_model(adapters, reference))

    def named(pairs):
        return {
            name.replace(".base_layer", "").replace(".default", ""): value for name, value in pairs
        }

    ours = LlamaForCausalLM(config, lora, compute=Compute(), rngs=nnx.Rngs(0))
    load_torch(ours, named(reference.state_dict().items()))
    ids, start = RANDOM.integers(0, 11, (2, 7)), np.array([1, 3])
    shown = RANDOM.normal(size=(2, 3, 16)).astype(np.float32)
    positions = np.array([[4, 5], [6, 0]])
    weight = RANDOM.normal(size=(2, 2, 16)).astype(np.float32)

    for parameter in reference.parameters():
        parameter.requires_grad_()
    embedded = reference.model.embed_tokens(torch.from_numpy(ids))
    rows = [
        torch.cat([text[:at], torch.from_numpy(picture), text[at + 3 :]])
        for text, picture, at in zip(embedded, shown, start, strict=True)
    ]
    states = reference.model(inputs_embeds=torch.stack(rows)).last_hidden_state
    loss = _theirs(reference.lm_head(states), torch.from_numpy(LABELS))
    taken = states[torch.arange(2)[:, None], torch.from_numpy(positions)]
    (loss + (taken * torch.from_numpy(weight)).sum()).backward()
    theirs = named((name, p.grad) for name, p in reference.named_parameters())

    graph, state = nnx.split(ours)

    def both(state):
        model = nnx.merge(graph, state)
        text = splice_image(
            model.model.embed_tokens(jnp.asarray(ids)), jnp.asarray(shown), jnp.asarray(start)
        )
        states = model.model(text)
        taken = image_token_states(states, jnp.asarray(positions))
        return language_loss(model.logits(states), jnp.asarray(LABELS)) + jnp.sum(taken * weight)

    gradient = nnx.to_flat_state(jax.jit(jax.grad(both))(state))
    assert len(gradient) == len(theirs)
    for path, value in gradient:
        name = ".".join([*map(str, path[:-1]), "weight"])
        value = value[...].T if path[-1] == "kernel" else value[...]
        assert relative_error(value, theirs[name]) < 1e-4, name
