"""What identifies a model's weights, whatever files they are kept in."""

from etils import epath

from mre_jax.io.tensor_hash import tensor_hash
from mre_jax.weights.lora import Loras
from mre_jax.weights.model import PretrainedModel
from mre_jax.weights.opening import model_at


def weights_hash(
    model: epath.PathLike,
    *,
    base: epath.PathLike | None = None,
    lora: Loras = (),
    weights: str | None = None,
) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor, in the order of the names.

    A folder, its copy in our Orbax form and one with older tensor names have the same hash.

    Args:
        model, base, lora, weights: model; see `model_at`.

    Raises:
        DataError: when the model cannot be read.
    """
    with model_at(model, base=base, lora=lora, weights=weights) as opened:
        return model_hash(opened)


def model_hash(model: PretrainedModel) -> str:
    """`weights_hash` of a model that is open."""
    return tensor_hash(
        (f"{component.name}.{name}", component.source.read(name))
        for component in model.components.values()
        for name in sorted(component.source.tensors)
    )
