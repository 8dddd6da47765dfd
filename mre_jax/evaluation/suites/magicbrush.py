"""`mre evaluate magicbrush`: distances to the true edits, single and multi turn (Table 2).

Beside the official L1 and L2 there are PSNR, at most 100 dB for an edit equal to the true one, and
SSIM. Where the set has its masks, "l1_outside" and "l2_outside" are the distances to the original
outside of them, where nothing was to change.

CLIP-T is reported on global captions, "clip_t_global", which are the official script's default and
what Table 2 shows, and on local ones, "clip_t", which its repository's example takes. The same of
the true edits, the script's "oracle", is "clip_t_global_oracle" and "clip_t_oracle": what a perfect
editor would reach.
"""

import argparse
import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mre_jax.commands.suite_options import PRESET, add_system
from mre_jax.errors import ConfigError
from mre_jax.evaluation.case import Case, Run
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.evaluation.edits.editor import Editor, Scores, check_made, load_editor, parse_rewards
from mre_jax.evaluation.measuring import Measured, add_networks, load_clip, load_dino
from mre_jax.evaluation.metrics.pixel import METRICS
from mre_jax.evaluation.preset import PRESETS
from mre_jax.evaluation.run_edits import edits_named, opened, print_summary, rows_of
from mre_jax.evaluation.suites.magicbrush_sessions import (
    MULTI,
    SINGLE,
    Session,
    multi_name,
    read_sessions,
    single_name,
)

if TYPE_CHECKING:
    from mre_jax.evaluation.metrics.clip_scores import CLIPScores

TURNS = {"single": (SINGLE,), "multi": (MULTI,), "both": (SINGLE, MULTI)}
_CLIP_T = {"clip_t_global": "edited", "clip_t": "edited_local"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument("data", help="folder of edit_sessions.json and images/")
    parser.add_argument("--turns", choices=tuple(TURNS), default="both", help="(%(default)s)")
    add_system(parser)
    add_networks(parser, "clip", "dino")


def run(args: argparse.Namespace) -> int:
    """Makes the edits, or takes them, and measures them."""
    sessions = read_sessions(fetched(args.data, args.out))
    suites = TURNS[args.turns]
    clip, dino = load_clip(args), load_dino(args)
    with opened(args.out) as results:
        for condition, checkpoint, edits in _edits(args, sessions, suites):
            for suite in suites:
                made = Run(suite, args.system, condition, checkpoint, Path(args.out))
                cases = cases_of(sessions, suite)
                measured = Measured(made, cases, edits[suite], results)
                measured.add_pixels(measured.targets, tuple(METRICS))
                measured.add_outside()
                if clip is not None:
                    values = clip.clip_i(measured.edited, measured.targets)
                    measured.add("clip_i", values, clip.measure)
                    _add_clip_t(measured, clip)
                if dino is not None:
                    similar = dino.similarity(measured.edited, measured.targets)
                    measured.add("dino", similar, dino.measure)
        rows = [row for suite in suites for row in rows_of(results, suite, args.system)]
    print_summary(rows, args.out)
    return 0


def _add_clip_t(measured: Measured, clip: "CLIPScores") -> None:
    """CLIP-T of the edits and of the true edits, for each kind of captions that is there."""
    for metric, which in _CLIP_T.items():
        if all(which in case.captions for case in measured.cases):
            texts = measured.captions(which)
            measured.add(metric, clip.clip_t(measured.edited, texts), clip.measure)
            measured.add(f"{metric}_oracle", clip.clip_t(measured.targets, texts), clip.measure)


def cases_of(sessions: Sequence[Session], suite: str) -> list[Case]:
    """What a suite measures: every turn, or what each session comes to."""
    if suite == SINGLE:
        return [case for session in sessions for case in session.turns]
    return [session.last for session in sessions]


def _edits(
    args: argparse.Namespace, sessions: Sequence[Session], suites: Sequence[str]
) -> Iterator[tuple[str, str, dict[str, Mapping[str, Path]]]]:
    """Condition, checkpoint and the pictures of each suite, for every reward."""
    if args.images:
        if args.rewards is not None:
            raise ConfigError("--rewards makes edits with --model; leave it out with --images")
        yield args.condition, "", {suite: _found(args, sessions, suite) for suite in suites}
        return
    rewards = [None] if args.rewards is None else parse_rewards(args.rewards)
    editor = load_editor(args, PRESETS[args.preset].size if args.size == PRESET else args.size)
    for reward in rewards:
        condition = editor.condition(reward)
        name = Run("", args.system, condition, "", Path()).name
        folder = Path(args.out) / "edits" / "magicbrush" / name
        edits = edit_sessions(editor, sessions, folder, reward, suites)
        for made in edits.values():
            check_made(made, folder)
        yield condition, editor.checkpoint, edits


def _found(args: argparse.Namespace, sessions: Sequence[Session], suite: str) -> dict[str, Path]:
    cases = cases_of(sessions, suite)
    name = single_name if suite == SINGLE else multi_name
    names = {case.id: [name(case.id)] for case in cases}
    return edits_named(args, cases, names)


def edit_sessions(
    editor: Editor,
    sessions: Sequence[Session],
    folder: Path,
    reward: Scores | None,
    suites: Sequence[str],
) -> dict[str, Mapping[str, Path]]:
    """Makes the edits of every session, turn by turn; returns them by suite and case id.

    A session ends with a turn that cannot be made. `folder/official` holds them under the official
    names.
    """
    turns = [case for session in sessions for case in session.turns]
    first = [session.turns[0] for session in sessions]
    made = editor.edit(turns if SINGLE in suites else first, folder / "single", reward)
    _name_officially(folder / "official", made, single_name)
    edits: dict[str, Mapping[str, Path]] = {SINGLE: made}
    if MULTI in suites:
        last = {s.name: made[s.turns[0].id] for s in sessions if s.turns[0].id in made}
        for number in range(2, max(len(session.turns) for session in sessions) + 1):
            goes_on = [s for s in sessions if len(s.turns) >= number and s.name in last]
            cases = [_own_turn(s, number, last.pop(s.name)) for s in goes_on]
            own = editor.edit(cases, folder / f"multi-{number}", reward)
            _name_officially(folder / "official", own, multi_name)
            last |= {case.group: own[case.id] for case in cases if case.id in own}
        edits[MULTI] = {s.last.id: last[s.name] for s in sessions if s.name in last}
    return edits


def _own_turn(session: Session, number: int, before: Path) -> Case:
    turn = session.turns[number - 1]
    return Case(turn.id, turn.group, turn.kind, turn.instruction, before)


def _name_officially(folder: Path, edits: Mapping[str, Path], name: Callable[[str], str]) -> None:
    """Gives each edit its official name too, without a copy where the disk can do that."""
    for id_, path in edits.items():
        link = folder / f"{name(id_)}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.exists():
            continue
        with contextlib.suppress(OSError):
            os.link(path, link)
            continue
        shutil.copyfile(path, link)
