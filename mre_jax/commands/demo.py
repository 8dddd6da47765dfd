"""`mre demo`: the paper's story in miniature, from PyTorch weights to a report, on a CPU.

    1. a small pretrained editor is brought in from its PyTorch folder
    2. flawed triplets of the toy world are scored by exact judges and prepared as TFRecords
    3. the editor is trained on them with rewards, and on the same without
    4. all edit pictures they have never seen, at several rewards
    5. the exact judges score the edits: tables, claims, a report

Every step is a command of `mre`, printed as you would type it, and is skipped where a run that was
stopped has done it.
"""

import argparse
import importlib.util
import json
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from mre_jax import cli
from mre_jax.demo.claims import Claim, measure_claims, measure_filtering
from mre_jax.demo.scale import FULL, QUICK, STANDARD, Scale
from mre_jax.demo.systems import ABLATIONS, BASELINE, MAIN, PRETRAINED, REWARD, TABLES, System
from mre_jax.demo.training import train_config
from mre_jax.demo.words import words_by_score
from mre_jax.errors import MreError
from mre_jax.evaluation.results import Result, read_results
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.tables.fill import render
from mre_jax.io.begun_folder import begin
from mre_jax.io.devices import use_all_cores
from mre_jax.io.extra import of_extra
from mre_jax.io.files import write_atomically
from mre_jax.io.image import write_png
from mre_jax.report.contact_sheet import contact_sheet
from mre_jax.report.page import Section, write_report
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.toyworld import EDITOR
from mre_jax.toyworld.pretraining.recipe import Recipe

_SCALE, _WORDS = "scale.json", "reward_words.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre demo`."""
    parser.add_argument("--out", type=Path, help="folder for everything (runs/demo)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_true", help="try the chain in minutes, proving nothing"
    )
    size.add_argument(
        "--full", action="store_true", help="all ablations of the paper, in under two hours"
    )
    parser.add_argument("--restart", action="store_true", help="do not go on with what is there")


def run(args: argparse.Namespace) -> int:
    """Tells the story.

    Raises:
        MreError: if a step fails, or a claim does.
    """
    name, scale = (
        ("quick", QUICK) if args.quick else ("full", FULL) if args.full else ("", STANDARD)
    )
    out: Path = args.out or Path("runs") / "-".join(filter(None, ("demo", name)))
    for needed in ("jinja2", "matplotlib"):  # of the report, which comes last
        of_extra(needed, "report")
    use_all_cores()
    if args.restart and (out / _SCALE).exists():
        shutil.rmtree(out)
    begin(out / _SCALE, vars(scale), kind="demo", remedy="add --restart, or take another --out")
    story = _Story(out, scale)
    story.bring_in()
    story.prepare()
    systems = (*MAIN, *(ABLATIONS if scale.ablations else ()))
    for system in systems:
        story.train(system)
    story.edit(systems)
    claims = story.report()
    print(f"\n{time.monotonic() - story.began:.0f} seconds in all")
    failed = [claim for claim in claims if not claim.holds]
    if failed and scale.proves:
        raise MreError(f"{len(failed)} of {len(claims)} claims failed; see {out}/report.html")
    return 0


class _Story:
    """The steps, each of which leaves what it made in a folder of its own."""

    def __init__(self, out: Path, scale: Scale):
        self.out, self.scale = out, scale
        self.began = time.monotonic()

    def bring_in(self) -> None:
        """Converts the shipped PyTorch folder; with PyTorch there, every network is compared."""
        self._chapter("a pretrained InstructPix2Pix of the toy world, from PyTorch")
        verify = "--verify" if importlib.util.find_spec("torch") else ""
        shipped = shlex.quote(str(EDITOR))
        self._once("convert", f"convert {shipped} {self._model(PRETRAINED)} {verify} --force")

    def prepare(self) -> None:
        """Makes triplets in the public layouts, and TFRecords with cached latents of them."""
        self._chapter("flawed triplets with rewards, as TFRecords with cached latents")
        toy, shards = self._at("toy"), self._at("shards")
        scale, size = self.scale, Recipe().size
        self._once(
            "prepare",
            f"toy --out {toy} --examples {scale.examples} --benchmark {scale.scenes} "
            f"--size {size} --format png",
            f"prepare instruct_pix2pix {toy}/triplets --rewards {toy}/RewardEdit.json "
            f"--out {shards}",
            self._cache_command("cached"),
        )

    def train(self, system: System) -> None:
        """Trains a system and exports it."""
        self._chapter(f"training: {system.name}")
        name = _folder(system.name)
        config = self.out / "configs" / f"{name}.yaml"
        config.parent.mkdir(exist_ok=True)
        editor, data = self.out / "models" / PRETRAINED, self._cached_for(system)
        train_config(system, editor, data, self.scale.steps).save(config)
        run = self._at("runs", name)
        self._once(
            f"train-{name}",
            f"train {shlex.quote(str(config))} --run {run} --alone",
            f"export {run} --out {self._model(system.name)} --force",
        )

    def _cached_for(self, system: System) -> Path:
        """The set with the reward texts that a system reads; made if only that system reads it."""
        if system.reward is None or system.reward.perspectives == PERSPECTIVES:
            return self.out / "cached"
        names = system.reward.perspectives
        folder = "-".join(("cached", *names))
        self._once(folder, f"{self._cache_command(folder)} --perspectives {','.join(names)}")
        return self.out / folder

    def _cache_command(self, folder: str) -> str:
        return (
            f"data cache {self._at('shards')} --model {self._model(PRETRAINED)} --text "
            f"--resolution {Recipe().size} --batch-size 64 --out {self._at(folder)}"
        )

    def edit(self, systems: Sequence[System]) -> None:
        """Edits the benchmark with every system, and has the edits judged."""
        self._chapter("editing pictures that no editor has seen, and judging the edits")
        write_atomically(self.out / _WORDS, json.dumps(words_by_score(), indent=1) + "\n")
        self._evaluate(PRETRAINED)
        for system in systems:
            sweep = self.scale.rewards if system.name == REWARD else "5"
            self._evaluate(system.name, sweep if system.reward else "")
        if self.scale.ablations:
            toy = self._at("toy")
            self._once(
                "evaluate-challenging",
                f"evaluate challenging {toy}/triplets --reward-edit {toy}/RewardEdit.json "
                f"--rule mean --count 300 {self._options(REWARD, '5')}",
            )

    def report(self) -> list[Claim]:
        """Prints the tables and the claims, and writes the page and the contact sheet."""
        self._chapter("what came of it")
        results = self.out / "results"
        rows = read_results(results / "results.jsonl")
        tables = _tables(rows, ablations=self.scale.ablations)
        claims = measure_claims(rows) + measure_filtering(rows) if self.scale.scenes > 1 else []
        listed = "\n".join(["Differences of mean scores, 95 % intervals", *map(str, claims)])
        text = f"{tables}\n\n{listed if claims else 'one scene is too few for claims'}\n"
        print(text)
        (self.out / "tables.txt").write_text(text)
        sections = [Section("The paper's tables, of the toy world", table=tables)]
        if claims:
            sections.insert(0, Section("The paper's claims, in miniature", _PROSE, listed))
        write_report(
            self.out / "report.html",
            rows,
            root=results,
            title="Rewards as a condition, in miniature",
            sections=sections,
            compare=("reward 5,5,5", BASELINE),
        )
        write_png(contact_sheet(rows, results), self.out / "contact_sheet.png")
        for name in ("report.html", "contact_sheet.png", "tables.txt"):
            print(self.out / name)
        return claims

    def _evaluate(self, name: str, rewards: str = "") -> None:
        benchmark = self._at("toy", "benchmark")
        command = f"evaluate real-edit {benchmark} {self._options(name, rewards)}"
        self._once(f"evaluate-{_folder(name)}", command)

    def _options(self, name: str, rewards: str) -> str:
        sweep = f"--rewards {rewards} --reward-words {self._at(_WORDS)}" if rewards else ""
        return (
            f"--system {shlex.quote(name)} --model {self._model(name)} {sweep} --judge toy "
            f"--size keep --steps {self.scale.sampling_steps} --guidance-scale 3 "
            f"--batch-size 24 --out {self._at('results')}"
        )

    def _model(self, name: str) -> str:
        return self._at("models", _folder(name))

    def _at(self, *parts: str) -> str:
        """A place in the demo's folder, for a command line."""
        return shlex.quote(str(self.out.joinpath(*parts)))

    def _chapter(self, title: str) -> None:
        print(f"\n[{time.monotonic() - self.began:4.0f} s] {title}", flush=True)

    def _once(self, name: str, *commands: str) -> None:
        """Runs commands of `mre`, unless an earlier run of the demo has."""
        mark = self.out / "done" / name
        if mark.exists():
            print(f"    {name}: done before")
            return
        for command in commands:
            arguments = shlex.split(command)
            print(f"$ mre {shlex.join(arguments)}", flush=True)
            if code := cli.main(arguments):
                raise MreError(f"mre {arguments[0]} ended with exit code {code}")
        mark.parent.mkdir(exist_ok=True)
        mark.touch()


def _folder(system: str) -> str:
    return system.replace(" ", "-")


def _tables(rows: Sequence[Result], *, ablations: bool) -> str:
    found = {row.system for row in rows}
    texts = []
    for number, sources in TABLES.items():
        if ablations or number in (1, 6, 8):
            there = {label: row for label, row in sources.items() if row.system in found}
            texts.append(render(number, rows, systems=there, intervals=Bootstrap()))
    return "\n\n".join(texts)


_PROSE = """\
The same pretrained editor was trained twice on the same flawed triplets: once with their rewards as
a condition, once without. Both edited pictures of scenes that occur in no training set. Exact
judges scored following, preserving and quality from 0 to 5.

A difference is the mean over the edits; its interval is from a paired bootstrap that draws whole
pictures, since the seven instructions of a picture share it."""
