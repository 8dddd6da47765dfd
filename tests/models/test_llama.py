import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import ConfigError
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.llama import (
    Attention,
    DecoderLayer,
    Llama,
    LlamaConfig,
    LlamaForCausalLM,
    RMSNorm,
    rotary,
)
from mre_jax.models.lora import LoRAConfig
from tests.parity import load_torch, randomize_torch, relative_error, torch_shapes

TINY = LlamaConfig(
    vocab_size=99,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=24,
)
GROUPED = dataclasses.replace(TINY, num_key_value_heads=2)
CONFIGS = pytest.mark.parametrize(
    "config",
    [TINY, GROUPED, dataclasses.replace(TINY, rope_theta=500.0, rms_norm_eps=1e-2)],
    ids=["full-heads", "grouped-heads", "other-constants"],
)
IDS = np.random.default_rng(0).integers(0, 99, (2, 9))
LENGTHS = np.array([9, 5])
SEEN = np.arange(9) < LENGTHS[:, None]


def _make(model, config, lora=None, **compute):
    return model(config, lora, compute=Compute(**compute), rngs=nnx.Rngs(0))


def _reference(config, seed=0):
    """transformers' LlamaForCausalLM with random weights."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.LlamaConfig(**config.to_dict(), attn_implementation="eager")
    return randomize_torch(transformers.LlamaForCausalLM(theirs).eval(), seed)


def _pair(config):
    reference = _reference(config)
    return load_torch(_make(LlamaForCausalLM, config), reference.state_dict()), reference


def _tensor(array):
    return pytest.importorskip("torch").from_numpy(np.array(array))


def _run(module, *args, **named):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return module(*args, **named)


def _random(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _part(model, name, module):
    """The tensors of a submodule under its own names."""
    return load_torch(module, model.get_submodule(name).state_dict())


@CONFIGS
def test_logits_and_states_are_transformers(config):
    ours, reference = _pair(config)
    theirs = _run(reference, _tensor(IDS), output_hidden_states=True)
    states, logits = jax.jit(lambda ids: (ours.model(ids), ours(ids)))(IDS)
    assert relative_error(states, theirs.hidden_states[-1]) < 1e-4
    assert relative_error(logits, theirs.logits) < 1e-4


def test_padding_on_the_right_needs_no_mask():
    ours, reference = _pair(GROUPED)
    mask = _tensor(SEEN.astype(np.int64))
    theirs = _run(reference.model, _tensor(IDS), attention_mask=mask).last_hidden_state
    states = np.asarray(ours.model(jnp.asarray(IDS)))
    assert relative_error(states[SEEN], theirs.numpy()[SEEN]) < 1e-4
    other = np.where(SEEN, IDS, 7)
    assert np.array_equal(states[SEEN], np.asarray(ours.model(jnp.asarray(other)))[SEEN])


def test_embeddings_enter_as_ids_do():
    ours, reference = _pair(TINY)
    vectors = _random(2, 9, 32)
    theirs = _run(reference.model, inputs_embeds=_tensor(vectors)).last_hidden_state
    assert relative_error(ours.model(jnp.asarray(vectors)), theirs) < 1e-4
    embedded = ours.model.embed_tokens(jnp.asarray(IDS))
    assert jnp.array_equal(ours.model(embedded), ours.model(jnp.asarray(IDS)))


@CONFIGS
def test_a_layer_and_its_parts_are_transformers(config):
    reference = _reference(config).model
    x, positions = _random(2, 9, 32), _tensor(np.arange(9)[None])
    turned = reference.rotary_emb(_tensor(x), positions)
    rotation = rotary(jnp.arange(9)[None], config.head_dim, config.rope_theta)
    assert relative_error(rotation.cos, turned[0][..., : config.head_dim // 2]) < 1e-5
    assert relative_error(rotation.sin, turned[1][..., : config.head_dim // 2]) < 1e-5

    norm = _part(reference, "layers.1.input_layernorm", RMSNorm(32, epsilon=config.rms_norm_eps))
    theirs = _run(reference.layers[1].input_layernorm, _tensor(x))
    assert relative_error(norm(jnp.asarray(x)), theirs) < 1e-5

    torch = pytest.importorskip("torch")
    hidden = torch.full((9, 9), float("-inf")).triu(1)[None, None]
    named = {"position_embeddings": turned, "attention_mask": hidden}
    attended = _run(reference.layers[1].self_attn, _tensor(x), **named)[0]
    layer = _run(reference.layers[1], _tensor(x), **named)
    ours = _part(reference, "layers.1.self_attn", _make(Attention, config))
    assert relative_error(ours(jnp.asarray(x), rotation)[0], attended) < 1e-5
    ours = _part(reference, "layers.1", _make(DecoderLayer, config))
    theirs = layer[0] if isinstance(layer, tuple) else layer
    assert relative_error(ours(jnp.asarray(x), rotation)[0], theirs) < 1e-5


def _adapted(config, lora):
    """Ours with random adapters, and its weights under PyTorch's names."""
    ours = _make(LlamaForCausalLM, config, lora)
    for number, layer in enumerate(ours.model.layers):
        for seed, target in enumerate((layer.self_attn.q_proj, layer.self_attn.v_proj)):
            shape = target.lora_B.kernel.shape
            target.lora_B.kernel[...] = jnp.asarray(_random(*shape, seed=10 * number + seed))
    return ours


def test_an_adapter_adds_its_scaled_product_to_q_and_v():
    lora = LoRAConfig(r=2, lora_alpha=4)
    ours = _adapted(GROUPED, lora)
    x = jnp.asarray(_random(2, 9, 32))
    attention = ours.model.layers[0].self_attn
    for layer in (attention.q_proj, attention.v_proj):
        kernel, a, b = (
            np.asarray(part.kernel[...]) for part in (layer, layer.lora_A, layer.lora_B)
        )
        assert relative_error(layer(x), x @ kernel + 2 * (x @ a @ b)) < 1e-5
    assert not hasattr(attention.k_proj, "lora_A") and not hasattr(attention.o_proj, "lora_A")


def test_an_adapted_network_is_pefts():
    """Under the names of its file, but for the name of the adapter."""
    peft = pytest.importorskip("peft")
    config = LoRAConfig(r=2, lora_alpha=4)
    theirs = peft.LoraConfig(**config.to_dict())
    reference = randomize_torch(peft.inject_adapter_in_model(theirs, _reference(GROUPED)))
    weights = {
        name.replace(".base_layer", "").replace(".default", ""): tensor
        for name, tensor in reference.state_dict().items()
    }
    ours = load_torch(_make(LlamaForCausalLM, GROUPED, config), weights)
    theirs = _run(reference.eval(), _tensor(IDS)).logits
    assert relative_error(jax.jit(lambda ids: ours(ids))(IDS), theirs) < 1e-4


def _torch_parameters(model):
    return {
        name: np.asarray(param[...].T if path[-1] == "kernel" else param[...])
        for name, (path, param) in (
            (".".join([*map(str, path[:-1]), "weight"]), (path, param))
            for path, param in nnx.to_flat_state(nnx.state(model, nnx.Param))
        )
    }


def test_fresh_adapters_change_nothing():
    plain, adapted = _make(LlamaForCausalLM, TINY), _make(LlamaForCausalLM, TINY, LoRAConfig())
    load_torch(adapted, {**_torch_parameters(adapted), **_torch_parameters(plain)})
    assert jnp.array_equal(plain(jnp.asarray(IDS)), adapted(jnp.asarray(IDS)))
    starts = np.concatenate(
        [layer.self_attn.q_proj.lora_A.kernel[...].ravel() for layer in adapted.model.layers]
    )
    assert abs(starts).max() <= 32**-0.5 and starts.std() == pytest.approx(96**-0.5, rel=0.05)


def test_dropout_of_adapters_belongs_to_its_example():
    ours = _adapted(TINY, LoRAConfig(r=2, lora_dropout=0.5))
    run = jax.jit(lambda ids, keys: ours.model(ids, keys))
    keys = jax.random.split(jax.random.key(0), 2)
    both, none = run(IDS, keys), ours.model(jnp.asarray(IDS))
    assert relative_error(both, none) > 1e-3
    np.testing.assert_allclose(run(IDS[1:], keys[1:])[0], both[1], atol=1e-5)
    assert relative_error(run(IDS, keys[::-1]), both) > 1e-3


def test_dropout_keeps_the_mean_and_the_stated_share():
    ours = _adapted(TINY, LoRAConfig(r=2, lora_dropout=0.25)).model.layers[0].self_attn.q_proj
    kernel = ours.lora_A.kernel
    kernel[...] = jnp.ones_like(kernel[...])
    ours.lora_B.kernel[...] = jnp.ones_like(ours.lora_B.kernel[...])
    x = jnp.ones((64, 8, 32))
    keys = jax.random.split(jax.random.key(0), 64)
    with_dropout, without = ours(x, keys), ours(x)
    added = (with_dropout - without) / 32 / 2 / ours.scale + 1
    assert float(added.mean()) == pytest.approx(1, abs=0.02)
    kept = np.asarray(added) * 32 * 0.75
    np.testing.assert_allclose(kept, kept.round(), atol=1e-3)


@pytest.mark.parametrize("lora", [None, LoRAConfig(r=2)], ids=["plain", "adapters"])
def test_cached_decode_is_the_full_forward(lora):
    """Rows of other lengths, each followed by five tokens of its own."""
    ours = _adapted(GROUPED, lora) if lora else _make(LlamaForCausalLM, GROUPED)
    after = np.random.default_rng(3).integers(0, 99, (2, 5))
    whole = [np.concatenate([IDS[b, : LENGTHS[b]], after[b]]) for b in range(2)]
    full = [ours.model(jnp.asarray(text)[None])[0] for text in whole]

    prefill = jax.jit(lambda ids, lengths: ours.model.prefill(ids, lengths, 14))
    step = jax.jit(ours.model.step)
    states, cache = prefill(IDS, LENGTHS)
    for b in range(2):
        assert relative_error(states[b, : LENGTHS[b]], full[b][: LENGTHS[b]]) < 1e-5
    for number in range(5):
        state, cache = step(jnp.asarray(after[:, number]), cache)
        for b in range(2):
            assert relative_error(state[b], full[b][LENGTHS[b] + number]) < 1e-5
    assert cache.lengths.tolist() == [14, 10]
    assert step._cache_size() == 1


def test_a_step_takes_an_embedding_too():
    ours = _make(LlamaForCausalLM, TINY).model
    _, cache = ours.prefill(jnp.asarray(IDS), jnp.asarray(LENGTHS), 12)
    ids = jnp.array([3, 4])
    by_id, _ = ours.step(ids, cache)
    assert jnp.array_equal(by_id, ours.step(ours.embed_tokens(ids), cache)[0])


def test_bfloat16_stays_close_and_logits_are_float32():
    exact = _make(LlamaForCausalLM, TINY)
    ours = _make(LlamaForCausalLM, TINY, dtype=jnp.bfloat16)
    graph, state = nnx.split(ours)
    stored = jax.tree.map(lambda x: x.astype(jnp.bfloat16), state)
    for model in (ours, nnx.merge(graph, stored)):
        states, logits = model.model(jnp.asarray(IDS)), model(jnp.asarray(IDS))
        assert states.dtype == jnp.bfloat16 and logits.dtype == jnp.float32
        assert relative_error(states, exact.model(jnp.asarray(IDS))) < 3e-2
    _, cache = ours.model.prefill(jnp.asarray(IDS), jnp.asarray(LENGTHS), 12)
    state, cache = ours.model.step(jnp.array([3, 4]), cache)
    assert {x.dtype for x in jax.tree.leaves(cache.layers)} == {jnp.dtype(jnp.bfloat16)}
    assert state.dtype == jnp.bfloat16


def test_gradients_are_transformers():
    ours, reference = _pair(GROUPED)
    weight = _random(2, 9, 99)
    logits = reference(_tensor(IDS)).logits
    (logits * _tensor(weight)).sum().backward()
    theirs = {name: p.grad for name, p in reference.named_parameters()}
    graph, state = nnx.split(ours)

    def loss(state):
        return jnp.sum(nnx.merge(graph, state)(jnp.asarray(IDS)) * weight)

    gradient = _torch_parameters(nnx.merge(graph, jax.jit(jax.grad(loss))(state)))
    assert gradient.keys() == theirs.keys()
    for name, value in gradient.items():
        assert relative_error(value, theirs[name]) < 1e-4, name


def test_rematerialisation_changes_no_gradient():
    def gradient(remat):
        graph, state = nnx.split(_make(Llama, TINY, LoRAConfig(r=2), remat=remat))
        keys = jax.random.split(jax.random.key(0), 2)

        def loss(state):
            return jnp.sum(nnx.merge(graph, state)(jnp.asarray(IDS), keys)[..., 0] ** 2)

        assert ("remat" in str(jax.make_jaxpr(loss)(state))) == remat
        return jax.jit(jax.grad(loss))(state)

    for a, b in zip(*map(jax.tree.leaves, (gradient(True), gradient(False))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_sharded_parameters_give_the_same_states():
    """Each over all devices, as 13 GB must be on chips of 16 GB."""
    ours = _adapted(GROUPED, LoRAConfig(r=2))
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("fsdp",))

    def placed(x):
        axis = next((axis for axis, size in enumerate(x.shape) if size % 8 == 0), None)
        spec = jax.P(*("fsdp" if at == axis else None for at in range(x.ndim)))
        return jax.device_put(x, jax.NamedSharding(mesh, spec))

    graph, state = nnx.split(ours)
    split = jax.tree.map(placed, state)
    largest = max(jax.tree.leaves(split), key=lambda x: x.size)
    assert largest.addressable_shards[0].data.size * 8 == largest.size

    @jax.jit
    def run(state):
        llama = nnx.merge(graph, state).model
        states, cache = llama.prefill(jnp.asarray(IDS), jnp.asarray(LENGTHS), 12)
        return states, llama.step(jnp.array([3, 4]), cache)[0]

    for a, b in zip(run(split), run(state), strict=True):
        assert relative_error(a, b) < 1e-5


def test_equal_layers_are_lowered_once():
    """Or tracing 40 layers would take 40 times as long."""
    graph, state = nnx.split(_make(Llama, TINY))
    text = jax.jit(lambda state: nnx.merge(graph, state)(jnp.asarray(IDS))).lower(state).as_text()
    assert text.count("func.func private @_layer") == 1
    assert text.count("call @_layer") == TINY.num_hidden_layers


def _count(shapes):
    return sum(np.prod(shape, dtype=int) for shape in shapes.values())


@pytest.mark.parametrize(
    ("preset", "parameters", "adapters", "tensors"),
    [
        ("llama_7b", 6_738_415_616, 4_194_304, 450 - 32),
        ("llama_13b", 13_015_864_320, 6_553_600, 562 - 40),
    ],
)
def test_full_sizes_have_the_names_and_shapes_of_the_released_file(
    preset, parameters, adapters, tensors
):
    """The file has a buffer of frequencies in each layer besides, and keeps lm_head elsewhere."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = getattr(LlamaConfig, preset)()
    ours = torch_shapes(
        nnx.eval_shape(
            lambda: LlamaForCausalLM(config, LoRAConfig(), compute=Compute(), rngs=make_rngs(0))
        )
    )
    with torch.device("meta"):
        theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config.to_dict()))
    frozen = {name: shape for name, shape in ours.items() if "lora_" not in name}
    assert frozen == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}

    assert _count(frozen) == parameters + 2 * 35 * config.hidden_size
    assert _count(ours) - _count(frozen) == adapters
    assert len(ours) - 1 == tensors
    width = config.hidden_size
    attention = f"model.layers.{config.num_hidden_layers - 1}.self_attn"
    for target in ("q_proj", "v_proj"):
        assert ours[f"{attention}.{target}.lora_A.weight"] == (8, width)
        assert ours[f"{attention}.{target}.lora_B.weight"] == (width, 8)
    assert ours["model.embed_tokens.weight"] == ours["lm_head.weight"] == (32035, width)


def test_a_text_longer_than_the_decoder_is_refused():
    ours = _make(Llama, TINY)
    with pytest.raises(ConfigError, match=r"25 tokens.*cut them to 24"):
        ours(jnp.zeros((1, 25), int))
    with pytest.raises(ConfigError, match=r"25 tokens.*cut them to 24"):
        ours.prefill(jnp.zeros((1, 20), int), jnp.array([20]), 25)


@pytest.mark.parametrize("config", [TINY, GROUPED, LoRAConfig(r=4)])
def test_a_config_survives_its_file(config):
    assert type(config).from_dict(config.to_dict()) == config


def test_absent_keys_mean_what_they_mean_to_transformers_and_peft():
    transformers = pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    assert LlamaConfig.from_dict({}) == LlamaConfig.from_dict(transformers.LlamaConfig().to_dict())
    theirs = transformers.LlamaConfig(rope_theta=500.0).to_dict()
    assert LlamaConfig.from_dict(theirs).rope_theta == 500.0
    theirs = peft.LoraConfig(target_modules=["q_proj", "v_proj"])
    targets = {"target_modules": ["q_proj", "v_proj"]}
    ours = LoRAConfig.from_dict(targets)
    assert (ours.r, ours.lora_alpha, ours.lora_dropout) == (
        theirs.r,
        theirs.lora_alpha,
        theirs.lora_dropout,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mistral"}, "model_type 'mistral'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings True"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn'"),
        ({"num_attention_heads": 5}, "num_attention_heads 5 does not divide hidden_size 32"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide num_attention_heads 4"),
        ({"num_attention_heads": 32}, "odd width 1"),
        ({"head_dim": 16}, "head_dim 16.*must be hidden_size / num_attention_heads, 8"),
    ],
)
def test_configs_of_other_networks_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        LlamaConfig.from_dict({**TINY.to_dict(), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3'"),
        ({"target_modules": ["q_proj", "k_proj"]}, r"target_modules \['q_proj', 'k_proj'\]"),
        ({"bias": "all"}, "bias 'all'"),
        ({"r": 0}, "r 0 must be at least 1"),
        ({"lora_dropout": 1.0}, r"lora_dropout 1.0 must be in \[0, 1\)"),
    ],
)
def test_adapters_of_another_kind_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        LoRAConfig.from_dict({**LoRAConfig().to_dict(), **changes})
