"""A draft of a benchmark: seven instructions for each photo of a folder, by a judge model.

    OUT/images/                    the photos
    OUT/drafts.jsonl               what the model wrote; no photo in it is asked for again
    OUT/instructions.draft.json    the same as instructions of Real-Edit

A person reads the draft beside the photos, mends it, and saves it as `instructions.json`; until
then no suite takes the folder.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from etils import epath
from tqdm import tqdm

from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.evaluation.edits.bucket import check_local, fetched
from mre_jax.evaluation.suites.instruction_draft import ask_for_draft, worst_usd
from mre_jax.io.files import write_atomically
from mre_jax.io.growing_file import GrowingFile, read_growing
from mre_jax.io.image import SUFFIXES
from mre_jax.judges.asking import run_async
from mre_jax.judges.openai.judge import OpenAIJudge
from mre_jax.judges.picture import Encoding
from mre_jax.judges.spec import JudgeSpec
from mre_jax.reward.edit_types import EDIT_TYPES

_SENT = Encoding(quality=90, height=768)


@dataclasses.dataclass(frozen=True)
class Written:
    """What became of a draft.

    Attributes:
        path: file of the instructions.
        done: number of photos that have instructions.
        missing: names of the photos that have none.
    """

    path: Path
    done: int
    missing: Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkDraft:
    """Instructions for photos, written by a model, to be verified by a person.

    Attributes:
        photos: folder of photos.
        out: folder of the new benchmark.
        judge: model that writes, openai:MODEL.

    Raises:
        ConfigError: if `out` is in a bucket.
    """

    photos: epath.PathLike = dataclasses.field(metadata={"positional": True})
    out: epath.PathLike
    judge: JudgeSpec

    def __post_init__(self) -> None:
        check_local(self.out)

    def estimate(self) -> str:
        """What it would cost, in a line.

        Raises:
            MreError: as `build`.
        """
        photos = self._photos()
        judge = self._judge(offline=True)
        most = sum(worst_usd(judge, _sent(photo)) for photo in photos)
        return f"{judge.name}: {len(photos)} requests, at most {most:.2f} USD with all repetitions"

    def build(self) -> Written:
        """Asks for what is missing, and writes the draft.

        Raises:
            ConfigError: if the judge cannot write.
            DataError: if there are no photos.
            BusyError: if the server does not answer, or the money does not suffice.
        """
        photos, judge, out = self._photos(), self._judge(), Path(self.out)
        (out / "images").mkdir(parents=True, exist_ok=True)
        with GrowingFile(out / "drafts.jsonl") as log:
            run_async(_fill(judge, photos, log, self.judge.max_usd))
        drafts = read_drafts(out / "drafts.jsonl")
        done = [photo for photo in photos if photo.name in drafts]
        for photo in done:
            if not (out / "images" / photo.name).exists():
                shutil.copyfile(photo, out / "images" / photo.name)
        draft = {photo.name: _lines(drafts[photo.name]) for photo in done}
        path = out / "instructions.draft.json"
        write_atomically(path, json.dumps(draft, indent=1, ensure_ascii=False) + "\n")
        return Written(path, len(done), [p.name for p in photos if p.name not in drafts])

    def _photos(self) -> list[Path]:
        return find_photos(fetched(self.photos, self.out))

    def _judge(self, *, offline: bool = False) -> OpenAIJudge:
        judge = self.judge.make(offline=offline)
        if not isinstance(judge, OpenAIJudge):
            raise ConfigError(
                f"--judge {self.judge.name}: only openai:MODEL can write instructions"
            )
        return judge


def find_photos(folder: Path) -> list[Path]:
    """The photos of a folder by name.

    Raises:
        DataError: if there is none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not photos:
        raise DataError(f"{folder}: no photos ({', '.join(SUFFIXES)}) in it")
    return photos


def read_drafts(path: Path) -> dict[str, dict[str, str]]:
    """The instructions by type of every photo that has them."""
    return {
        line.row["photo"]: line.row["instructions"]
        for line in read_growing(path)
        if line.row.get("status") == "ok"
    }


def _sent(photo: Path) -> bytes:
    return _SENT.encode(photo.read_bytes(), str(photo))


def _lines(instructions: Mapping[str, str]) -> list[str]:
    return [f"{n}. {kind}: {instructions[kind]}" for n, kind in enumerate(EDIT_TYPES, 1)]


async def _fill(
    judge: OpenAIJudge, photos: Sequence[Path], log: GrowingFile, max_usd: float | None
) -> None:
    """One photo after the other; what one may cost is written down before it is sent."""
    done, spent = _state(log)
    try:
        for photo in tqdm([p for p in photos if p.name not in done], unit="photo", disable=None):
            data = _sent(photo)
            worst = worst_usd(judge, data)
            if max_usd is not None and spent + worst > max_usd:
                raise BusyError(
                    f"{photo.name} may cost {worst:.4f} USD, and {spent:.4f} of {max_usd:.4f} are "
                    "spent; raise --max-usd to go on"
                )
            log.append({"photo": photo.name, "status": "sent", "usd": worst})
            draft = await ask_for_draft(judge, data)
            log.append({"photo": photo.name, **dataclasses.asdict(draft)})
            spent += draft.usd
            if draft.status == "http_error":
                raise BusyError(f"{photo.name}: no answer ({draft.raw}); run it again later")
    finally:
        await judge.close()


def _state(log: GrowingFile) -> tuple[set[str], float]:
    """The photos that have instructions, and what was spent, unanswered requests at their worst."""
    done: set[str] = set()
    sent: dict[str, float] = {}
    spent = 0.0
    for line in log.lines():
        record = line.row
        photo = record["photo"]
        if record["status"] == "sent":
            spent += sent.get(photo, 0.0)
            sent[photo] = record["usd"]
        else:
            sent.pop(photo, None)
            spent += record["usd"]
            if record["status"] == "ok":
                done.add(photo)
    return done, spent + sum(sent.values())
