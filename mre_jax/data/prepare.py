"""The two jobs that write a set: a public one as TFRecord shards, and shards with a cache in them.

Either goes on after a stop when it is called again, and leaves the same bytes.
"""

import dataclasses
import functools
import hashlib
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal

from etils import epath

from mre_jax.data.bad_examples import BadExample, parse_skip_bad
from mre_jax.data.cache.description import KEPT, Cache, CacheOptions
from mre_jax.data.join import THRESHOLD, JoinReport, Judged, join
from mre_jax.data.records.manifest import SEVERAL, SKIPPED, Manifest
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.records.shards import SHARD_BYTES, Plan, plan_shards
from mre_jax.data.records.writer import Spread, write_set
from mre_jax.data.sources import SOURCES, open_source, typed_options
from mre_jax.data.sources.selection import Check, parse_shard, select
from mre_jax.data.sources.source import Keys, Source
from mre_jax.data.stats import rounding_lines
from mre_jax.data.triplets import Triplet
from mre_jax.data.workers import by_beam, by_processes
from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.file import read_rewards

if TYPE_CHECKING:
    from mre_jax.data.cache.maker import CacheMaker

_FORMAT = 1
_UNSAID = "seeds", "one"
"""The option that an earlier version had for good, and so did not write down."""

_OF_CACHE = ("cache", "sample", "shards")
"""Settings that a cached set has of its own, and not of the set it was made of."""

Say = Callable[[str], object]
"""Called with a line that is known before the work, which may take hours."""


@dataclasses.dataclass(frozen=True)
class PrepareSpec:
    """A public set, and what of it becomes shards.

    Attributes:
        source: layout of the set, one of `mre_jax.data.sources.SOURCES`.
        path: file or folder of the set, which may be gs://.
        out: folder to fill, which may be gs://.
        options: an option of the layout's reader, as split=train; may be repeated.
        rewards: a file as RewardEdit_20K.json; what it judges is the set.
        reward_key: what the keys of the rewards are.
        join_threshold: least share of the rewards that must join.
        keep_unjudged: keep examples that no reward judges.
        none_for_top: note that 'None' is to stand for texts of top scores; the texts are kept
            either way.
        max_examples: the set ends after these.
        shard: part I, from 0, of N, as a set of its own in an --out of its own.
        skip_bad: leave out as many bad examples, or such a share, as 0.01 or 1%; the manifest
            lists them. Without it all are listed, and no set is made.
        sizes: whether a pair of pictures that differ in size is bad.
        name: name of the set; by default the source's.
        split: name of the split that is written.
        shard_mb: size of a file to aim at.
        min_shards: least number of files, one for each host.
        validate: decode every picture, and compare the sizes of each pair.
        cache: a model whose encoders' latents are kept too, as 'mre data cache' does; in one
            process.
        base: another model for what that one lacks: tokenizer, VAE, text encoder.
        lora: a LoRA to merge into its weights, of the scale 1 or another; may be repeated.
        templates: file of the templates that a SmartEdit's prompts are made of (default: the
            model's own, or else this project's).
        split_llm: each device holds a part of SmartEdit's language model, where a copy is too large
            for one.
        cached: what the cache holds.
        workers: processes.
        beam: write by Apache Beam with these pipeline options, as --beam=--runner=DirectRunner;
            every worker must see PATH and --out.
    """

    source: str = field(
        metadata={"positional": True, "help": f"layout of the set: {', '.join(SOURCES)}"}
    )
    path: epath.PathLike = field(metadata={"positional": True})
    _: dataclasses.KW_ONLY
    out: epath.PathLike
    options: dict[str, Any] = field(default_factory=dict, metadata={"flag": "--option"})
    rewards: epath.PathLike | None = field(
        default=None, metadata={"group": "rewards", "metavar": "FILE"}
    )
    reward_key: Literal["auto", "folder", "row"] = "auto"
    join_threshold: float = THRESHOLD
    keep_unjudged: bool = False
    none_for_top: bool = True
    max_examples: int | None = field(default=None, metadata={"group": "which examples"})
    shard: str = field(default="0/1", metadata={"metavar": "I/N"})
    skip_bad: float = field(default=0, metadata={"metavar": "N", "parse": parse_skip_bad})
    sizes: Literal["same", "any"] = "same"
    name: str | None = field(default=None, metadata={"group": "files"})
    split: str = "train"
    shard_mb: float = SHARD_BYTES / 1e6
    min_shards: int = 1
    validate: bool = True
    workers: int = field(default=1, metadata={"group": "work; the shards do not depend on it"})
    beam: str | None = field(default=None, metadata={"metavar": "OPTIONS"})
    cache: epath.PathLike | None = field(
        default=None, metadata={"group": "model of a cache", "metavar": "MODEL"}
    )
    base: epath.PathLike | None = field(default=None, metadata={"metavar": "MODEL"})
    lora: tuple[str, ...] = field(default=(), metadata={"metavar": "FILE[:SCALE]"})
    templates: epath.PathLike | None = field(default=None, metadata={"metavar": "FILE"})
    split_llm: bool = False
    cached: CacheOptions = field(default_factory=CacheOptions, metadata={"title": "cache"})


@dataclasses.dataclass(frozen=True)
class CacheSpec:
    """A prepared set, and what a model's encoders give of it.

    Attributes:
        folder: set of mre prepare.
        model: model whose VAE and text encoder are asked, or a SmartEdit's own networks in the
            latter's place: a model folder, a weight file, gs://..., or org/name@REVISION on the
            hub.
        out: folder to fill.
        shard: part I, from 0, of N, as a set of its own in an --out of its own.
        base: another model for what this one lacks: tokenizer, VAE, text encoder.
        lora: a LoRA to merge into the model's weights, of the scale 1 or another; may be repeated.
        templates: file of the templates that a SmartEdit's prompts are made of (default: the
            model's own, or else this project's).
        split_llm: each device holds a part of SmartEdit's language model, where a copy is too large
            for one.
        none_for_top: 'None' stands for reward texts of top scores (as the set was prepared).
        cached: what the cache holds.
    """

    folder: epath.PathLike = field(metadata={"positional": True, "metavar": "SHARDS"})
    _: dataclasses.KW_ONLY
    model: epath.PathLike
    out: epath.PathLike = field(metadata={"metavar": "DIR"})
    shard: str = field(default="0/1", metadata={"metavar": "I/N"})
    base: epath.PathLike | None = field(default=None, metadata={"metavar": "MODEL"})
    lora: tuple[str, ...] = field(default=(), metadata={"metavar": "FILE[:SCALE]"})
    templates: epath.PathLike | None = field(default=None, metadata={"metavar": "FILE"})
    split_llm: bool = False
    none_for_top: bool | None = None
    cached: CacheOptions = field(default_factory=CacheOptions, metadata={"title": "cache"})


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A set that was written; as text, what there is to say of it.

    Attributes:
        folder: folder of the set.
        manifest: manifest of the set.
        joined: how the rewards met the examples; None without rewards, or of a set that was
            cached.
    """

    folder: epath.PathLike
    manifest: Manifest
    joined: JoinReport | None = None

    @property
    def skipped(self) -> list[BadExample]:
        """The bad examples that were left out."""
        return [BadExample(**one) for one in self.manifest.measured.get(SKIPPED, ())]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        made = self.manifest
        yield (
            f"{self.folder}: {made.count} examples in {len(made.shards)} shards, "
            f"{made.bytes / 1e6:.1f} MB, {made.hash[:16]}"
        )
        cache, measured = Cache.of(made), made.measured
        if several := measured.get(SEVERAL):
            held = "an epoch draws one of each"
            if cache is not None and cache.text is not None:
                held = (
                    "of each of which the cache holds one; leave the texts out to have one drawn "
                    "in each epoch"
                )
            yield f"{several} examples have several instructions: {held}"
        if cache is not None:
            yield str(cache)
            yield from rounding_lines(measured["rounding"])
            for name, cut in measured.get("cut_texts", {}).items():
                yield f"{name}: {cut} of {measured['texts']} texts were cut to the encoder's window"


def prepare(spec: PrepareSpec, say: Say = lambda line: None) -> Prepared:
    """Writes a public set, with its rewards, as shards.

    Args:
        say: called with what the source notes, and how the rewards joined.

    Example:
        >>> spec = PrepareSpec("instruct_pix2pix", "toy/triplets", out="shards",
        ...                    rewards="toy/RewardEdit.json", name="toy")
        >>> made = prepare(spec)
        >>> made.manifest.count, [shard.file for shard in made.manifest.shards]
        (7, ['toy-train.tfrecord-00000-of-00001'])

    Raises:
        ConfigError: for a value out of range, or a folder that was begun with other settings.
        BusyError: if another process is filling the folder.
        BadExamplesError: if more examples are bad than may be left out.
        DataError: if the source or the rewards cannot be read, or do not join.
    """
    options, spread = typed_options(spec.source, spec.options), _spread(spec)
    source, joined = open_source(spec.source, spec.path, **options), None
    for note in getattr(source, "notes", ()):
        say(note)
    if spec.rewards:
        source = judged = _judged(source, spec.rewards, spec, say)
        joined = judged.report
    check = Check(decode=spec.validate, same_size=spec.sizes == "same")
    maker = None
    if spec.cache:
        asked = dataclasses.replace(spec.cached, none_for_top=spec.none_for_top)
        maker = _maker(spec.cache, asked, spec)
    plan = plan_shards(
        source,
        select(len(source), spec.max_examples, parse_shard(spec.shard)),
        name=spec.name or source.name,
        split=spec.split,
        shard_bytes=round(spec.shard_mb * 1e6),
        min_shards=spec.min_shards,
        check=check,
        extra_bytes=maker.cache.record_bytes if maker else 0,
    )
    settings = _settings(spec, options, len(source), joined)
    settings |= maker.cache.settings() if maker else {}
    manifest = write_set(
        source,
        plan,
        spec.out,
        settings,
        check=check,
        skip_bad=spec.skip_bad,
        spread=spread,
        extender=maker,
    )
    return Prepared(spec.out, manifest, joined)


def cache(spec: CacheSpec) -> Prepared:
    """Writes a prepared set anew, with what a model's encoders give of each record.

    Raises:
        ConfigError: if the set has no pictures left, or the options do not fit the model.
        DataError: if the set or the model cannot be read.

    Example:
        >>> cached = CacheOptions(text=True, resolution=24)
        >>> print(cache(CacheSpec("shards", model=TOY, out="cached", cached=cached)))
        cached: 7 examples in 1 shards, ...
    """
    source = PreparedSource(spec.folder)
    records, manifest = source.records, source.records.manifest
    if records.cache is not None and records.cache.pictures != KEPT:
        raise ConfigError(f"{spec.folder}: its pictures were dropped; cache the set it came from")
    settings = {k: v for k, v in manifest.settings.items() if k not in _OF_CACHE}
    top = settings.get("none_for_top", True) if spec.none_for_top is None else spec.none_for_top
    maker = _maker(spec.model, dataclasses.replace(spec.cached, none_for_top=bool(top)), spec)
    settings |= {"cached_from": manifest.hash, **maker.cache.settings()}
    shard = parse_shard(spec.shard)
    if shard[1] > 1:
        settings["cached_part"] = spec.shard
    # What was prepared once is not judged again.
    check = Check(decode=False, same_size=records.same_size, instruction=False)
    made = write_set(source, source.plan(shard), spec.out, settings, check=check, extender=maker)
    return Prepared(spec.out, made)


class PreparedSource:
    """The records of a prepared set, in their order, to be written again with more in them.

    Attributes:
        name: name of the set.
        path: path of the folder.
        records: random access to them.
    """

    def __init__(self, folder: epath.PathLike):
        """Opens a folder; raises as `RecordSource`."""
        self.records = RecordSource(folder)
        self.name, self.path = self.records.manifest.name, str(folder)

    def __len__(self) -> int:
        return len(self.records)

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        """Yields the triplets; see `Source`. A damaged record is raised: the set is broken."""
        return (self.records[position] for position in positions)

    def keys(self) -> Keys:
        """Row numbers; rewards were joined before."""
        return Keys(rows=range(len(self)), total=len(self))

    def plan(self, part: tuple[int, int] = (0, 1)) -> Plan:
        """As many shards as there are, with the same parts of the set; or their share of a part."""
        manifest = self.records.manifest
        return Plan(
            name=manifest.name,
            split=manifest.split,
            positions=select(len(self), shard=part),
            shards=-(-len(manifest.shards) // part[1]),
            sample=manifest.hash,
        )


def _maker(
    model: epath.PathLike, options: CacheOptions, spec: PrepareSpec | CacheSpec
) -> "CacheMaker":
    from mre_jax.data.cache.maker import CacheMaker  # with the networks, which take long to import
    from mre_jax.io.devices import keep_programs
    from mre_jax.smartedit.templates import Templates

    keep_programs()
    templates = None if spec.templates is None else Templates.read(spec.templates)
    return CacheMaker(
        model,
        options,
        base=spec.base,
        lora=spec.lora,
        templates=templates,
        split_llm=spec.split_llm,
    )


def _spread(spec: PrepareSpec) -> Spread | None:
    if spec.workers < 1 or (spec.workers > 1 and spec.beam is not None):
        raise ConfigError(f"--workers {spec.workers}: want at least 1, and 1 beside --beam")
    if spec.cache and (spec.workers > 1 or spec.beam is not None):
        raise ConfigError("--cache works in one process, on all its devices: no --workers, --beam")
    if spec.beam is not None:
        return functools.partial(by_beam, shlex.split(spec.beam))
    return functools.partial(by_processes, spec.workers) if spec.workers > 1 else None


def _judged(source: Source, rewards: epath.PathLike, spec: PrepareSpec, say: Say) -> Judged:
    judged = join(
        source,
        read_rewards(rewards),
        key=spec.reward_key,
        threshold=spec.join_threshold,
        keep_unjudged=spec.keep_unjudged,
    )
    say(str(judged.report))
    if judged.report.unjudged:
        what = "kept" if spec.keep_unjudged else "left out (--keep-unjudged keeps them)"
        say(f"{judged.report.unjudged} triplets without a reward are {what}")
    return judged


def _settings(
    spec: PrepareSpec, options: dict[str, Any], examples: int, joined: JoinReport | None
) -> dict[str, Any]:
    """What the shards depend on. Not the place of the input, whose content is sampled instead."""
    digest = None
    if spec.rewards:
        digest = hashlib.sha256(epath.Path(spec.rewards).read_bytes()).hexdigest()
    return {
        "format": _FORMAT,
        "source": spec.source,
        "options": {key: value for key, value in options.items() if (key, value) != _UNSAID},
        "examples": examples,
        "max_examples": spec.max_examples,
        "part": spec.shard,
        "rewards": digest,
        "reward_key": joined.key if joined else None,
        "none_for_top": spec.none_for_top,
        "shard_bytes": round(spec.shard_mb * 1e6),
        "min_shards": spec.min_shards,
        # Said only where it is not as it ever was, so that older sets keep their settings.
        **({} if spec.sizes == "same" else {"sizes": spec.sizes}),
        **({"unjudged": "kept"} if spec.keep_unjudged else {}),
    }
