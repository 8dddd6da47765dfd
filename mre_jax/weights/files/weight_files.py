"""Which files of a folder hold a component's weights, by the names that PyTorch's libraries give.

A name says the library (`diffusion_pytorch_model`, `model`, `pytorch_model`), a variant that a
person chose (fp16, non_ema, ...), the format, and whether it is one file, a shard of several, or
the index of the shards. Every place where diffusers or transformers has put the variant is read:

    name[.VARIANT][-00001-of-00002][.VARIANT].(safetensors|bin)[[.VARIANT].index[.VARIANT].json]
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple


class WeightSet(NamedTuple):
    """All weights of a component, once.

    Attributes:
        entry: the name of the file to open: the only one, or the index of the shards.
        files: names of all, the entry among them.
        variant: what the name says besides library and format; "" for nothing.
        weights: "ema" or "raw" where the folder has or names both, else "only".
    """

    entry: str
    files: tuple[str, ...]
    variant: str
    weights: str


def weight_sets(names: Iterable[str]) -> list[WeightSet]:
    """The sets of weights among the files of a folder, the best first.

    The moving average comes before the raw weights, full precision before half, safetensors
    before .bin, one file before shards.

    Args:
        names: names of the files, without their folder.
    """
    files: dict[tuple[str, str, str], list[re.Match]] = {}
    for name in names:
        if match := _NAME.fullmatch(name):
            variant = ".".join(filter(None, match.group("a", "b", "c", "d"))).lower()
            files.setdefault((match["library"], variant, match["format"]), []).append(match)
    variants = {variant for _, variant, _ in files}
    found = {
        key: WeightSet(entry, parts, key[1], _weights(key[1], variants))
        for key, matches in files.items()
        for entry, parts in _entries(matches)
    }
    return [found[key] for key in sorted(found, key=lambda key: _rank(key, found[key]))]


def choose(names: Iterable[str], weights: str | None = None) -> tuple[WeightSet | None, list[str]]:
    """The set of weights to take, and the entries of those that are left.

    Args:
        names: names of the files; see `weight_sets`.
        weights: "raw" prefers what is no moving average; None and "ema" the average.

    Returns:
        None for the set where there is none.
    """
    sets = weight_sets(names)
    if weights == "raw":
        sets.sort(key=lambda found: found.weights != "raw")  # stable: otherwise as they are
    return (sets[0] if sets else None), [found.entry for found in sets[1:]]


def _entries(matches: list[re.Match]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """The file of one set, or else its index with the shards; nothing for shards alone."""
    by_kind: dict[str, list[str]] = {"whole": [], "index": [], "shard": []}
    for match in matches:
        kind = "index" if match["index"] else "shard" if match["shard"] else "whole"
        by_kind[kind].append(match[0])
    if by_kind["whole"]:
        yield by_kind["whole"][0], (by_kind["whole"][0],)
    elif by_kind["index"]:
        index = min(by_kind["index"])
        yield index, (index, *sorted(by_kind["shard"]))


def _weights(variant: str, variants: Collection[str]) -> str:
    """What a variant is of the two, by its own word or by that of the others beside it."""
    if _RAW.search(variant):
        return "raw"
    if _AVERAGE.search(variant):
        return "ema"
    if any(map(_RAW.search, variants)):
        return "ema"
    return "raw" if any(map(_AVERAGE.search, variants)) else "only"


def _rank(key: tuple[str, str, str], found: WeightSet) -> tuple:
    library, variant, format = key
    words = set(re.split(r"[._-]+", variant))
    precision = next((i for i, known in enumerate(_PRECISIONS) if known & words), _UNKNOWN)
    return (
        found.weights == "raw",
        library != "diffusion_pytorch_model",
        precision,
        format != "safetensors",
        found.entry.endswith(".json"),
        found.entry,
    )


_VARIANT = r"(?:(?!-\d{5,}-of-).)+?"
_NAME = re.compile(
    rf"(?P<library>diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<a>{_VARIANT}))?"
    rf"(?P<shard>-\d{{5,}}-of-\d{{5,}})?(?:\.(?P<b>{_VARIANT}))?\.(?P<format>safetensors|bin)"
    rf"(?P<index>(?:\.(?P<c>{_VARIANT}))?\.index(?:\.(?P<d>{_VARIANT}))?\.json)?"
)
_RAW = re.compile(r"(^|[._-])(non?[._-]?ema|raw)($|[._-])")
_AVERAGE = re.compile(r"(^|[._-])ema($|[._-])")

# The best first. Half precision of 10 bits comes before that of 7, and a word that says nothing
# of precision before both.
_PRECISIONS = (
    {"", "fp32", "float32", "full"},
    {"unknown"},
    {"fp16", "float16", "f16", "half"},
    {"bf16", "bfloat16"},
    {"fp8", "int8", "int4", "8bit", "4bit", "nf4"},
)
_UNKNOWN = 1
