"""What a prepared set holds: sizes, scores, lengths, and the words of its reward texts."""

import dataclasses
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath
from PIL import Image
from tqdm import tqdm

from mre_jax.data.cache.description import Cache
from mre_jax.data.records.example import decode_triplet
from mre_jax.data.records.manifest import GROUPS, SKIPPED, Manifest, check_manifest
from mre_jax.data.records.tfrecord import read_records
from mre_jax.data.stats_charts import write_charts
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import write_atomically
from mre_jax.io.image import FORMATS
from mre_jax.reward.stats import RewardStats
from mre_jax.reward.text import CountTokens, Truncation, measure_truncation, reward_parts

_BATCH = 256


@dataclasses.dataclass(kw_only=True)
class Stats(RewardStats):
    """Counts over all records of a set.

    Attributes:
        name: name of the set.
        examples: number of examples.
        captioned: examples with both captions.
        shards: number of files.
        bytes: size of the files.
        groups: examples that an epoch reads, if it reads one of each group; 0 if it reads all.
        several: examples with several instructions.
        skipped: bad examples that were left out, as the manifest lists them.
        sources: examples by the set they come from.
        lineage: examples whose edits models made, by whose pictures, round, model and judge.
        sizes: examples by "width x height" of the original picture.
        formats: examples by the file format of the original picture.
        instruction_words: instructions by their number of words.
        instruction_tokens: instructions by their number of tokens, with start and end.
        truncation: truncation of the reward texts; None without a tokenizer.
        cache: what is cached in the records; "" if nothing is.
        rounding: largest and mean absolute error of what is cached, by its name.
    """

    name: str
    shards: int = 0
    bytes: int = 0
    groups: int = 0
    several: int = 0
    skipped: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    examples: int = 0
    captioned: int = 0
    sources: Counter[str] = dataclasses.field(default_factory=Counter)
    lineage: Counter[str] = dataclasses.field(default_factory=Counter)
    sizes: Counter[str] = dataclasses.field(default_factory=Counter)
    formats: Counter[str] = dataclasses.field(default_factory=Counter)
    instruction_words: Counter[int] = dataclasses.field(default_factory=Counter)
    instruction_tokens: Counter[int] = dataclasses.field(default_factory=Counter)
    truncation: Truncation | None = None
    cache: str = ""
    rounding: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def to_dict(self) -> dict[str, Any]:
        """JSON values; of the words the 200 most frequent."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["truncation"] = self.truncation and dataclasses.asdict(self.truncation)
        values["words"] = {name: dict(words.most_common(200)) for name, words in self.words.items()}
        return values


@dataclasses.dataclass(frozen=True)
class StatsSpec:
    """The set to describe.

    Attributes:
        folder: set of mre prepare, on a local disk.
        tokenizer: folder of a CLIP tokenizer whose tokens are counted, not only words.
    """

    folder: epath.PathLike = dataclasses.field(metadata={"positional": True, "metavar": "DIR"})
    tokenizer: str | None = dataclasses.field(default=None, metadata={"metavar": "FOLDER"})


def describe(spec: StatsSpec) -> Stats:
    """Reads all records once; decodes no picture.

    Example:
        >>> stats = describe(StatsSpec("shards"))
        >>> stats.examples, dict(stats.sizes)
        (7, {'32 x 32': 7})

    Raises:
        ConfigError: if there is no tokenizer in its folder.
        DataError: if the set is not whole, naming shard and record.
    """
    folder = epath.Path(spec.folder)
    count_tokens = token_counter(spec.tokenizer) if spec.tokenizer else None
    manifest = check_manifest(folder)
    stats = Stats(
        name=manifest.name,
        shards=len(manifest.shards),
        bytes=manifest.bytes,
        groups=manifest.measured.get(GROUPS, 0),
        skipped=manifest.measured.get(SKIPPED, []),
    )
    if (cache := Cache.of(manifest)) is not None:
        stats.cache, stats.rounding = str(cache), dict(manifest.measured.get("rounding", {}))
    judged: list[tuple[str, ...]] = []  # texts only: the pictures are dropped at once
    triplets = _read(folder, manifest)
    while batch := list(itertools.islice(triplets, _BATCH)):
        for triplet in batch:
            _add(stats, triplet)
            if count_tokens is not None and triplet.texts is not None:
                judged.append(reward_parts(triplet.texts, triplet.scores))
        if count_tokens is not None:
            stats.instruction_tokens.update(count_tokens([t.instruction for t in batch]))
    if count_tokens is not None:
        stats.truncation = measure_truncation(judged, count_tokens)
    return stats


def write_stats(folder: epath.PathLike, stats: Stats) -> list[epath.Path]:
    """Writes `stats.json` and the charts of `write_charts`; returns their paths."""
    charts, counts = write_charts(folder, stats), epath.Path(folder) / "stats.json"
    write_atomically(counts, json.dumps(stats.to_dict(), indent=1, ensure_ascii=False) + "\n")
    return [counts, *charts]


def token_counter(folder: epath.PathLike) -> CountTokens:
    """Counts tokens by the CLIP tokenizer that a folder holds.

    Raises:
        ConfigError: if there is none.
    """
    from transformers import CLIPTokenizer  # slow to import, and an option

    folder = epath.Path(folder)
    # Without its files the library makes an empty vocabulary instead of failing.
    if not any((folder / name).exists() for name in ("vocab.json", "tokenizer.json")):
        raise ConfigError(f"{folder}: no vocab.json in it; give the tokenizer/ of a model folder")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the library raises whatever its parser does
        raise ConfigError(
            f"{folder}: no CLIP tokenizer ({str(error).partition(chr(10))[0]})"
        ) from None
    return lambda texts: [
        len(ids) for ids in tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
    ]


def _read(folder: epath.Path, manifest: Manifest) -> Iterator[Triplet]:
    with tqdm(total=manifest.count, unit="record", desc="stats", disable=None) as bar:
        for shard in manifest.shards:
            for number, record in enumerate(read_records(folder / shard.file)):
                triplet, _ = decode_triplet(record, f"{shard.file}: record {number}")
                yield triplet
                bar.update()


def _add(stats: Stats, triplet: Triplet) -> None:
    stats.examples += 1
    stats.sources[triplet.source or "?"] += 1
    if triplet.provenance is not None:
        stats.lineage[str(triplet.provenance)] += 1
    size, kind = _picture(triplet)
    stats.sizes[size] += 1
    stats.formats[kind] += 1
    stats.several += bool(triplet.instructions)
    stats.captioned += bool(triplet.original_caption and triplet.edited_caption)
    stats.instruction_words[len(triplet.instruction.split())] += 1
    stats.add_reward(triplet.scores, triplet.texts)


def _picture(triplet: Triplet) -> tuple[str, str]:
    """Size and format of the original, from its file's header."""
    try:
        with Image.open(io.BytesIO(triplet.original), formats=FORMATS) as image:
            return "{} x {}".format(*image.size), str(image.format)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise DataError(f"{triplet.where}: original picture: damaged") from None


def _lines(stats: Stats) -> Iterator[str]:
    mean = stats.bytes / max(stats.examples, 1) / 1e3
    yield (
        f"{stats.name}: {stats.examples} examples in {stats.shards} shards, "
        f"{stats.bytes / 1e6:.1f} MB ({mean:.1f} kB each)"
    )
    if stats.groups:
        yield f"groups: {stats.groups}, of each of which an epoch reads one example"
    if stats.several:
        yield f"with several instructions: {stats.several}, of each of which an epoch draws one"
    if stats.skipped:
        yield f"left out as bad: {len(stats.skipped)}, the first {stats.skipped[0]['reason']}"
    yield f"judged: {stats.judged}; with both captions: {stats.captioned}"
    for title, counter in (
        ("from", stats.sources), ("pictures", stats.sizes), ("formats", stats.formats)
    ):  # fmt: skip
        shown = ", ".join(f"{name} ({count})" for name, count in counter.most_common(5))
        more = f", and {len(counter) - 5} other" if len(counter) > 5 else ""
        yield f"{title}: {shown}{more}"
    if stats.lineage:
        made = stats.lineage.total()
        yield f"edits made by models: {made} of {stats.examples} ({made / stats.examples:.1%})"
        for origin, count in sorted(stats.lineage.items()):
            yield f"    {count}: {origin}"
    yield f"instruction words: {_spread(stats.instruction_words)}"
    if stats.instruction_tokens:
        yield f"instruction tokens: {_spread(stats.instruction_tokens)}"
    if stats.judged:
        yield from stats.score_lines()
    if stats.truncation is not None:
        yield str(stats.truncation)
    if stats.cache:
        yield f"cache: {stats.cache}"
        yield from rounding_lines(stats.rounding)


def rounding_lines(rounding: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """A line for each cached array: its largest and mean absolute error."""
    for name, error in rounding.items():
        yield f"rounding of {name}: at most {error['max']:.2g}, mean {error['mean']:.2g}"


def _spread(lengths: Counter[int]) -> str:
    ordered = sorted(lengths.elements())
    high = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return f"median {ordered[len(ordered) // 2]}, 99 % up to {high}, longest {ordered[-1]}"
