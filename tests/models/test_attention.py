import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from mre_jax.errors import ConfigError
from mre_jax.models.attention import IMPLEMENTATIONS, attention
from tests.parity import relative_error

HEADS, WIDTH = 2, 40


def _inputs(tokens, text=None, batch=1, dtype=jnp.float32, width=WIDTH):
    keys = jax.random.split(jax.random.key(0), 3)
    lengths = (tokens, text or tokens, text or tokens)
    return [
        jax.random.normal(key, (batch, length, HEADS, width), dtype)
        for key, length in zip(keys, lengths, strict=True)
    ]


def _grads(implementation, inputs, causal=False):
    """Gradients of a loss in which every output counts differently, and the output."""

    def loss(*inputs):
        out = attention(*inputs, implementation=implementation, causal=causal)
        return jnp.sum(jnp.sin(out)), out

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*inputs)


def _assert_equal(ours, expected):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert relative_error(a, b) < 1e-5


def _primitives(implementation, inputs):
    """The program's text, as traced; naming a kernel lowers nothing yet."""
    return str(jax.make_jaxpr(lambda *x: attention(*x, implementation=implementation))(*inputs))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("implementation", ["plain", "xla", "auto"])
def test_output_is_pytorchs_scaled_dot_product_attention(implementation, causal):
    torch = pytest.importorskip("torch")
    inputs = _inputs(16, 16 if causal else 7)
    q, k, v = (torch.from_numpy(np.array(x)).transpose(1, 2) for x in inputs)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    ours = attention(*inputs, implementation=implementation, causal=causal)
    assert relative_error(ours, theirs.transpose(1, 2)) < 1e-5


@pytest.mark.parametrize("tokens", [384, 100])
def test_chunks_of_queries_equal_all_queries_at_once(tokens):
    inputs = _inputs(tokens, 77, batch=2)
    _assert_equal(_grads("chunked", inputs), _grads("plain", inputs))


def test_a_cpu_chunks_long_self_attention_alone():
    assert "scan" in _primitives("cpu", _inputs(1024))
    for lengths in ((256, 256), (1024, 77)):
        assert "scan" not in _primitives("cpu", _inputs(*lengths))
    assert "scan" not in _primitives("gpu", _inputs(1024))


@pytest.mark.parametrize(
    ("implementation", "causal"), [("flash", False), ("splash", False), ("splash", True)]
)
def test_tpu_kernels_equal_plain_attention_forward_and_backward(implementation, causal):
    inputs = _inputs(256)
    with pltpu.force_tpu_interpret_mode(True):
        ours = _grads(implementation, inputs, causal)
    _assert_equal(ours, _grads("plain", inputs, causal))


def test_splash_runs_on_each_devices_part_of_the_batch():
    inputs = _inputs(128, batch=8)
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh), pltpu.force_tpu_interpret_mode(True):
        sharded = jax.device_put(inputs, jax.NamedSharding(mesh, jax.P(("data", "fsdp"))))
        grads, out = _grads("splash", sharded)
    assert out.sharding.shard_shape(out.shape)[0] == 1
    _assert_equal((grads, out), _grads("plain", inputs))


def test_splash_serves_a_batch_that_the_mesh_does_not_divide():
    inputs = _inputs(128, batch=3)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh), pltpu.force_tpu_interpret_mode(True):
        ours = jax.jit(lambda *x: attention(*x, implementation="splash"))(*inputs)
    assert relative_error(ours, attention(*inputs, implementation="plain")) < 1e-5


def test_splash_works_where_the_caller_has_split_the_devices_already():
    inputs = _inputs(128, batch=2)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.shard_map(
        lambda *x: attention(*x, implementation="splash"),
        mesh=mesh,
        in_specs=jax.P("data"),
        out_specs=jax.P("data"),
        check_vma=False,
    )
    with pltpu.force_tpu_interpret_mode(True):
        ours = jax.jit(split)(*inputs)
    assert relative_error(ours, attention(*inputs, implementation="plain")) < 1e-5


@pytest.mark.parametrize("implementation", ["flash", "splash"])
@pytest.mark.parametrize("lengths", [(64, 64), (128, 77), (130, 128)])
def test_lengths_the_tpu_kernels_cannot_take_are_computed_all_the_same(implementation, lengths):
    inputs = _inputs(*lengths)
    assert "pallas_call" not in _primitives(implementation, inputs)
    ours = attention(*inputs, implementation=implementation)
    assert relative_error(ours, attention(*inputs, implementation="plain")) < 1e-5


def test_flash_is_not_asked_for_head_widths_it_cannot_tile():
    assert "pallas_call" not in _primitives("flash", _inputs(256, width=160))


def test_a_tpu_uses_splash_for_long_self_attention_alone():
    assert "pallas_call" in _primitives("tpu", _inputs(1024))
    for lengths in ((256, 256), (1024, 77), (1024, 1280)):
        assert "pallas_call" not in _primitives("tpu", _inputs(*lengths))


@pytest.mark.parametrize(
    ("dtype", "width", "is_fused"),
    [(jnp.bfloat16, 40, True), (jnp.float32, 40, False), (jnp.bfloat16, 160, False)],
)
def test_a_gpu_uses_cudnn_where_it_supports_the_inputs(monkeypatch, dtype, width, is_fused):
    chosen = []

    def record(query, key, value, *, is_causal, implementation):
        chosen.append(implementation)
        return query

    # Without cuDNN its kernel cannot even be traced, so the call stops here.
    monkeypatch.setattr(jax.nn, "dot_product_attention", record)
    attention(*_inputs(64, dtype=dtype, width=width), implementation="gpu")
    assert chosen == (["cudnn"] if is_fused else [])


def test_bfloat16_keeps_its_dtype_and_stays_close_to_float32():
    inputs = _inputs(32)
    rounded = [x.astype(jnp.bfloat16) for x in inputs]
    exact = _grads("plain", inputs, causal=True)
    ours = (*_grads("plain", rounded, causal=True), attention(*rounded, implementation="xla"))
    expected = (*exact, attention(*inputs, implementation="xla"))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert a.dtype == jnp.bfloat16
        assert relative_error(a, b) < 2e-2


def test_an_unknown_implementation_is_refused_with_the_names_that_exist():
    with pytest.raises(ConfigError) as error:
        attention(*_inputs(4), implementation="fast")
    assert "'fast'" in str(error.value)
    assert all(name in str(error.value) for name in IMPLEMENTATIONS)
