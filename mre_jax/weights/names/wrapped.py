"""Names that something around a network has put before those of its tensors, taken off again.

Compiling and distributing a module wraps it, and a trainer may save the wrapper's names.
"""

import re

from mre_jax.errors import DataError
from mre_jax.weights.files.source import TensorSource, renamed

ANCHORS = {
    "unet": "time_embedding.linear_1.weight",
    "vae": "encoder.conv_in.weight",
    "text_encoder": "embeddings.token_embedding.weight",
}
"""A tensor that a network has once, by component: what stands before it is a prefix."""


def unwrapped(source: TensorSource) -> tuple[TensorSource, list[str]]:
    """The tensors without the names of torch's wrappers, wherever those stand, and a note."""
    words = {match[1] for name in source.tensors for match in _WRAPPER.finditer(name)}
    if not words:
        return source, []
    found = ", ".join(repr(word) for word in sorted(words))
    plain = renamed(source, lambda name: _WRAPPER.sub("", name))
    plain.origin = f"{source.origin} (its names without {found})"
    return plain, [f"names read without {found}"]


def unprefixed(source: TensorSource, component: str) -> tuple[TensorSource, list[str]]:
    """The tensors of a component's folder without what stands before all their names, and notes.

    What a component has besides, though it is not used, is left out: the projection of a CLIP that
    was made with one, the discriminator of a VAE, and the other parts of a model that was saved
    as one.

    Args:
        component: a key of `ANCHORS`.

    Raises:
        DataError: when there is the same network under several prefixes.
    """
    source, notes = unwrapped(source)
    prefix = prefix_of(source, ANCHORS[component])
    usual = prefix in ("", None, _USUAL.get(component))
    if not usual:
        notes.append(f"names read without the prefix {prefix!r}")
    before = "" if usual else prefix or ""
    inside = {n.removeprefix(before) for n in source.tensors if before and n.startswith(before)}

    def rule(stored: str) -> str | None:
        name = stored.removeprefix(prefix or "")
        of_another = not stored.startswith(before) and stored not in inside
        return None if of_another or _UNUSED[component].fullmatch(name) else name

    if left := [name for name in source.tensors if rule(name) is None]:
        notes.append(f"{len(left)} tensors that are not used left out, such as {min(left)}")
    plain = renamed(source, rule)
    if not usual:
        plain.origin = f"{source.origin} (its names without {prefix!r})"
    return plain, [f"{component}: {note}" for note in notes]


def prefix_of(source: TensorSource, anchor: str) -> str | None:
    """What stands before `anchor` among the names, "" for nothing; None when it is not there.

    Raises:
        DataError: when it is there several times.
    """
    found = sorted(
        name.removesuffix(anchor)
        for name in source.tensors
        if name == anchor or name.endswith(f".{anchor}")
    )
    if len(found) > 1:
        raise DataError(
            f"{source.origin} holds the same network several times, under "
            f"{', '.join(map(repr, found))}; keep one of them"
        )
    return found[0] if found else None


_WRAPPER = re.compile(
    r"(?:(?<=\.)|^)((?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module"
    r"|_forward_module)\.)"
)
_USUAL = {"text_encoder": "text_model."}
_UNUSED = {
    "unet": re.compile(r"(?!)"),
    "vae": re.compile(r"loss\..+"),
    "text_encoder": re.compile(r"(text_projection(\.weight)?|logit_scale)"),
}
