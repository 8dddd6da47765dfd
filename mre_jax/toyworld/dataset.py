"""The toy world in the layouts of the public data sets.

    OUT/triplets/           an InstructPix2Pix folder: seeds.json and, per example, NNNNNNN/ with
                            prompt.json, {seed}_0.jpg, {seed}_1.jpg and metadata.jsonl; with several
                            variants a pair of pictures and a line of metadata of each
    OUT/RewardEdit.json     scores and texts by folder name, as RewardEdit_20K.json; with several
                            variants by NNNNNNN_{seed}
    OUT/benchmark/          held-out scenes with seven instructions each, as Real-Edit
    OUT/contact_sheet.png   the first examples, to look at
    OUT/toy.json            the settings; a folder made with other ones is refused

A score is the judge's, of the edited picture as it is decoded from its file, rounded. Each example
depends on its index and the settings but for their number alone, so a small set is the beginning of
a large one, and a run that was stopped is finished by running the same command again.
"""

import dataclasses
import functools
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from tqdm import tqdm

from mre_jax.data.workers import map_processes
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.begun_folder import begin
from mre_jax.io.contact_sheet import FAINT, INK, Cell, Strip, contact_sheet, grade
from mre_jax.io.image import write_png
from mre_jax.io.processes import usable_cores
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.reward.stats import RewardStats
from mre_jax.toyworld.benchmark import write_benchmark, write_json
from mre_jax.toyworld.corruption import FEEDBACK, feedback
from mre_jax.toyworld.edits import KEEP, apply, captions, instructions
from mre_jax.toyworld.judge import judge
from mre_jax.toyworld.misjudgement import Misjudgement
from mre_jax.toyworld.triplets import (
    TRAINING,
    ImageFormat,
    Triplets,
    decode,
    draw_triplets,
    encode,
    to_bytes,
)

_METADATA = "metadata.jsonl"
_CHUNK = 32  # examples that are drawn together; the files do not depend on it
_SHEET = 28  # examples on the contact sheet, four of each type


@dataclasses.dataclass(frozen=True)
class Settings:
    """What determines every byte of a toy world.

    Attributes:
        examples: training examples, a scene and an instruction each.
        seed: seed of all random numbers.
        size: pixels along a side.
        image_format: format of the images: jpg of quality 95, or png without loss.
        benchmark: held-out benchmark scenes; each has seven instructions.
        variants: triplets of each example, of the same original and damaged independently: pairs
            for loss.preference.
        clean_share: share of the triplets without any damage; by default 0.027.
        judge_noise: standard deviation of the error of the judge that gives the scores.
        judge_bias: points by which it is too high on average.

    Raises:
        ConfigError: if a number is out of range.
    """

    examples: int = 8000
    seed: int = 0
    size: int = 64
    image_format: ImageFormat = dataclasses.field(default="jpg", metadata={"flag": "--format"})
    benchmark: int = 80
    variants: int = 1
    clean_share: float | None = None
    judge_noise: float = 0.0
    judge_bias: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("examples", 1, 9_999_999),
            ("seed", 0, 2**32 - 1),
            ("size", 16, 1024),
            ("benchmark", 1, 999),
            ("variants", 1, 99),
            ("clean_share", 0, 1),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it must be from {low} to {high}")
        _ = self.misjudgement

    @property
    def triplets(self) -> int:
        """Training triplets in all."""
        return self.examples * self.variants

    @property
    def misjudgement(self) -> Misjudgement:
        """The error of the judge."""
        return Misjudgement(self.judge_noise, self.judge_bias, self.seed)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without the settings that came later where they change nothing."""
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if (k, v) not in _LATER.items()}


_LATER = {"variants": 1, "clean_share": None, "judge_noise": 0.0, "judge_bias": 0.0}
"""A folder of an earlier version was written with these."""


def write_dataset(
    out: Path, settings: Settings, *, workers: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Write a toy world, or what is missing of it.

    Args:
        workers: processes; all cores by default.

    Example:
        >>> rewards = write_dataset(Path("world"), Settings(7, size=32, benchmark=1), workers=1)
        >>> [one["Score"] for one in rewards["0000000"]]
        [2, 5, 3]

    Returns:
        The content of RewardEdit.json.

    Raises:
        ConfigError: there are no workers, or the folder was begun with other settings or holds
            something else.
        DataError: the folder is damaged or cannot be written.
    """
    workers = usable_cores() if workers is None else workers
    if workers < 1:
        raise ConfigError(f"workers is {workers}; it must be at least 1")
    try:
        begin(out / "toy.json", settings.to_dict(), kind="toy world")
        _write_triplets(out / "triplets", settings, workers)
        write_benchmark(
            out / "benchmark",
            scenes=settings.benchmark,
            seed=settings.seed,
            size=settings.size,
            image_format=settings.image_format,
        )
        write_png(_contact_sheet(settings), out / "contact_sheet.png")
        return _write_indices(out, settings)
    except OSError as error:
        raise DataError(
            f"{error.filename or out}: {error.strerror}; mend that and run the same command again"
        ) from error


def _write_triplets(folder: Path, settings: Settings, workers: int) -> None:
    """Write the example folders that are not there yet, in several processes if there are many."""
    chunks = range(0, settings.examples, _CHUNK)
    write = functools.partial(_write_chunk, folder, settings)
    workers = min(workers, len(chunks))
    written = map(write, chunks) if workers == 1 else map_processes(workers, write, chunks)
    with tqdm(total=settings.examples, unit="example", desc="toy world", disable=None) as bar:
        for count in written:
            bar.update(count)


def _write_chunk(folder: Path, settings: Settings, start: int) -> int:
    """Write one chunk's examples; returns their number. Always draws the chunk as a whole."""
    wanted = range(start, min(start + _CHUNK, settings.examples))
    if not all((folder / _name(index)).exists() for index in wanted):
        indices = range(start, start + _CHUNK)
        for index, files in zip(indices, _folders(indices, settings), strict=True):
            if index in wanted:
                write_folder(folder / _name(index), files)
    return len(wanted)


def _name(index: int) -> str:
    return f"{index:07d}"


def _image_seed(settings: Settings, index: int, variant: int) -> int:
    """The number in the file names of a variant of an example."""
    sequence = np.random.SeedSequence((settings.seed, TRAINING, index))
    return (int(sequence.generate_state(1)[0]) + variant) % 2**32


def _draw(indices: range, settings: Settings, variant: int = 0) -> Triplets:
    return draw_triplets(
        settings.seed,
        indices,
        settings.size,
        variant=variant,
        clean_share=settings.clean_share,
    )


def _folders(indices: range, settings: Settings) -> Iterator[dict[str, bytes]]:
    """The files of every example, by name."""
    variants = [_files(indices, settings, variant) for variant in range(settings.variants)]
    for several in zip(*variants, strict=True):
        files: dict[str, bytes] = {}
        for one in several:
            lines = files.pop(_METADATA, b"") + one[_METADATA]
            files |= one | {_METADATA: lines}
        yield files


def _files(indices: range, settings: Settings, variant: int) -> Iterator[dict[str, bytes]]:
    """The files of a variant of every example, by name."""
    triplets = _draw(indices, settings, variant)
    edited = [encode(image, settings.image_format) for image in triplets.edited]
    judged = _judged(triplets, edited)
    numbers = [_image_seed(settings, index, variant) for index in indices]
    scores = _scores(judged, numbers, settings)
    texts = feedback(triplets.kinds, scores)
    asked = instructions(triplets.scenes, triplets.edits)
    before = captions(triplets.scenes)
    after = captions(apply(triplets.scenes, triplets.edits))
    scenes, edits = triplets.scenes.to_json(), triplets.edits.to_json()
    for row, number in enumerate(numbers):
        prompt = {"edit": asked[row], "input": before[row], "output": after[row]}
        metadata = {
            "seed": number,
            "scores": scores[row].tolist(),
            "texts": texts[row],
            "judged": judged[row].round(3).tolist(),
            "severities": triplets.severities[row].tolist(),
            "damage": [list(t)[k] for t, k in zip(FEEDBACK, triplets.kinds[row], strict=True)],
            "scene": scenes[row],
            "edit": edits[row],
        }
        yield {
            "prompt.json": json.dumps(prompt).encode(),
            f"{number}_0.{settings.image_format}": encode(
                triplets.source[row], settings.image_format
            ),
            f"{number}_1.{settings.image_format}": edited[row],
            _METADATA: (json.dumps(metadata) + "\n").encode(),
        }


def _judged(triplets: Triplets, files: list[bytes]) -> Float[np.ndarray, "b 3"]:
    """The judge's scores of the edited pictures as a reader will decode them."""
    edited = np.stack([decode(file) for file in files])
    whole = triplets.edits.look != KEEP
    return judge(triplets.source, triplets.target, edited, whole)


def _scores(
    judged: Float[np.ndarray, "b 3"], numbers: list[int], settings: Settings
) -> Int[np.ndarray, "b 3"]:
    """What the set's judge gives the pictures of these numbers, of which it knows the worth."""
    erring = settings.misjudgement
    given = [
        [
            erring(exact, f"{number} {perspective}")
            for exact, perspective in zip(row, PERSPECTIVES, strict=True)
        ]
        for number, row in zip(numbers, judged.tolist(), strict=True)
    ]
    return np.rint(given).astype(int)


def _contact_sheet(settings: Settings) -> Image.Image:
    """The first examples with scores and texts; in each line those of one type of edit."""
    triplets = _draw(range(_SHEET), settings)
    judged = _judged(triplets, [encode(x, settings.image_format) for x in triplets.edited])
    numbers = [_image_seed(settings, index, 0) for index in range(_SHEET)]
    scores = _scores(judged, numbers, settings)
    said = feedback(triplets.kinds, scores)
    strips = []
    for row, asked in enumerate(instructions(triplets.scenes, triplets.edits)):
        pictures = {"source": triplets.source, "ideal": triplets.target, "edited": triplets.edited}
        rewards = zip(scores[row].tolist(), PERSPECTIVES, said[row], strict=True)
        strips.append(
            Strip(
                title=[(EDIT_TYPES[triplets.edits.kind[row]], FAINT), (asked, INK)],
                cells=[
                    Cell(Image.fromarray(to_bytes(images[row])), [[(name, FAINT)]])
                    for name, images in pictures.items()
                ],
                lines=[
                    [(str(n), grade(n)), (name, INK), (text, FAINT)] for n, name, text in rewards
                ],
            )
        )
    return contact_sheet(strips, (144, 144), columns=4)


def _write_indices(out: Path, settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Write RewardEdit.json and, last, seeds.json, from the metadata of all examples."""
    rewards, seeds = {}, []
    for name in map(_name, range(settings.examples)):
        text = (out / "triplets" / name / _METADATA).read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
        for row in rows:
            key = name if settings.variants == 1 else f"{name}_{row['seed']}"
            rewards[key] = [
                {"Score": score, "Negative Prompt": text}
                for score, text in zip(row["scores"], row["texts"], strict=True)
            ]
        seeds.append([name, [str(row["seed"]) for row in rows]])
    write_json(out / "RewardEdit.json", rewards)
    write_json(out / "triplets" / "seeds.json", seeds)
    return rewards


def histogram(rewards: dict[str, list[dict[str, Any]]]) -> str:
    """How often each score occurs in each perspective, as a table for the terminal."""
    stats = RewardStats()
    for row in rewards.values():
        stats.add_reward([perspective["Score"] for perspective in row], None)
    return "\n".join(stats.score_lines())


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """A folder that appears with all its files; one that is already there is left as it is."""
    if folder.exists():
        return
    part = folder.with_name(f".{folder.name}.part")
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    for name, content in files.items():
        (part / name).write_bytes(content)
    part.rename(folder)
