"""The demo, told from its beginning to its end."""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mre_jax.demo.claims import Claim, measure_claims
from mre_jax.demo.jobs import Job, do
from mre_jax.demo.page import report_spec, write_page
from mre_jax.demo.pictures import write_first_edits
from mre_jax.demo.plan import WORDS, Plan, Step
from mre_jax.demo.spec import DemoSpec
from mre_jax.demo.training import BATCH_SIZE
from mre_jax.errors import MreError
from mre_jax.evaluation.results import read_results
from mre_jax.io.begun_folder import begin
from mre_jax.io.devices import keep_programs, use_all_cores
from mre_jax.io.extra import of_extra
from mre_jax.io.files import write_atomically
from mre_jax.report.spec import ReportSpec
from mre_jax.toyworld import EDITOR

_SCALE = "scale.json"


@dataclasses.dataclass(frozen=True)
class Told:
    """What a demo has shown.

    Attributes:
        folder: of everything.
        files: what to look at.
        claims: each with what was found; none at a scale that has too few scenes for them.
        seconds: of this start, by chapter.
    """

    folder: Path
    files: Sequence[Path]
    claims: Sequence[Claim]
    seconds: dict[str, float]


def run_demo(
    spec: DemoSpec,
    say: Callable[[str], object] = print,
    show: Callable[[Job | ReportSpec], object] = lambda job: None,
) -> Told:
    """Tells the story, or what is left of it.

    Args:
        say: called with every line of it.
        show: called with every job before it is done.

    Raises:
        MreError: if a job fails; or at the end, all being written, if a claim does at a scale that
            is to prove them.
    """
    for needed in ("jinja2", "matplotlib"):  # of the report, which comes last
        of_extra(needed, "report")
    use_all_cores(dividing=BATCH_SIZE)
    keep_programs()
    out, scale = spec.folder, spec.scale
    if spec.restart and (out / _SCALE).exists():
        shutil.rmtree(out)
    settings = dataclasses.asdict(scale) | {"editor": _digest(EDITOR)}
    begin(out / _SCALE, settings, kind="demo", remedy="add --restart, or take another --out")
    plan = Plan(out, scale)
    write_atomically(out / WORDS, json.dumps(plan.words, indent=1) + "\n")
    clock = _Clock(say)
    for number, chapter in enumerate(plan.chapters):
        clock.begin(chapter.title)
        for step in chapter.steps:
            _once(out, step, say, show)
        if number == 0:
            written = write_first_edits(plan.first, out / "first_edits.png")
            say(f"{written}: the first edits, after {clock.passed:.0f} seconds")
    clock.begin("what came of it")
    rows = read_results(plan.results)
    claims = measure_claims(rows) if scale.scenes > 1 else []
    show(report_spec(plan))
    files = write_page(plan, rows, claims, say)
    clock.end()
    for path in files:
        say(str(path))
    failed = [claim for claim in claims if not claim.holds]
    if failed and scale.proves:
        raise MreError(f"{len(failed)} of {len(claims)} claims failed; see {out}/report.html")
    return Told(out, files, claims, clock.seconds)


def _digest(editor: Path) -> str:
    """What tells the editor that ships from that of another version."""
    weights = editor / "unet" / "diffusion_pytorch_model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def _once(
    out: Path, step: Step, say: Callable[[str], object], show: Callable[[Job | ReportSpec], object]
) -> None:
    """Does the jobs of a step, unless an earlier start of the demo has."""
    mark = out / "done" / step.name
    if mark.exists():
        say(f"    {step.name}: done before")
        return
    for job in step.jobs:
        show(job)
        do(job, say)
    mark.parent.mkdir(exist_ok=True)
    mark.touch()


class _Clock:
    """Announces chapters, and keeps what each takes.

    Attributes:
        seconds: by chapter.
    """

    def __init__(self, say: Callable[[str], object]):
        self._say = say
        self._began = self._last = time.monotonic()
        self._chapter = ""
        self.seconds: dict[str, float] = {}

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def begin(self, chapter: str) -> None:
        """Ends the chapter before, and begins another."""
        self._close(chapter)
        self._say(f"\n[{self.passed:4.0f} s] {chapter}")

    def end(self) -> None:
        """Ends the last chapter, and says what each has taken."""
        self._close("")
        self._say("\nSeconds of each chapter")
        for chapter, seconds in self.seconds.items():
            self._say(f"{seconds:7.1f}  {chapter}")
        self._say(f"{self.passed:7.1f}  in all")

    def _close(self, next_: str) -> None:
        now = time.monotonic()
        if self._chapter:
            self.seconds[self._chapter] = now - self._last
        self._chapter, self._last = next_, now
