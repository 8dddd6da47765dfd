"""Result files of any systems, suites and runs as one page."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from mre_jax.errors import ConfigError
from mre_jax.evaluation.provenance import side_by_side
from mre_jax.evaluation.results import (
    Result,
    pair_files,
    read_all,
    read_results,
    results_file,
)
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.report.page import Section, Written, write_report
from mre_jax.report.pictures import BUDGET, PLACES


@dataclasses.dataclass(frozen=True)
class ReportSpec:
    """A page and what it is about.

    Attributes:
        results: files or folders of `mre evaluate`
        out: HTML file to write
        title: title of the page
        compare: two systems, as "reward 5,5,5" or by name; of two runs with the same systems, as
            "reward (RUN) 5,5,5"
        side_by_side: show results of different judges, prompts or settings under systems of
            different names, instead of refusing them; they are never averaged
        pictures: inside the page, made smaller to fit; beside it, as they are, in a folder of its
            name and _files; auto: there if they do not fit at 512 pixels
        budget: MiB of all pictures in the page together
        draws: draws of the bootstrap

    Example:
        >>> from mre_jax.evaluation.results import append_results
        >>> edit = ("ours", "5,5,5", "real-edit", "cat-1", "cat", "Local")
        >>> append_results("results.jsonl", [Result(*edit, "quality", 4.0)])
        >>> ReportSpec(("results.jsonl",), out="report.html").write().items
        1
    """

    results: tuple[epath.PathLike, ...] = dataclasses.field(metadata={"positional": True})
    out: epath.PathLike
    title: str = "Evaluation of editors"
    compare: tuple[str, str] | None = dataclasses.field(
        default=None, metadata={"nargs": 2, "metavar": ("A", "B")}
    )
    side_by_side: bool = False
    pictures: str = dataclasses.field(default="auto", metadata={"choices": PLACES})
    budget: float = dataclasses.field(default=BUDGET / 2**20, metadata={"metavar": "MIB"})
    draws: int = Bootstrap.draws

    def __post_init__(self) -> None:
        if not self.budget > 0:
            raise ConfigError(f"--budget is {self.budget:g}; it must be above 0")

    def write(
        self, sections: Sequence[Section] = (), *, opening: Sequence[Section] = ()
    ) -> Written:
        """Writes the page.

        Args:
            opening: what the page begins with.
            sections: put behind the ranking.

        Raises:
            ConfigError, DataError: as `read_runs` and `write_report`.
        """
        root, rows = read_runs(self.results, apart=self.side_by_side)
        files = pair_files(self.results)
        return write_report(
            self.out,
            rows,
            pairs=read_all(files, apart=self.side_by_side) if files else (),
            root=root,
            title=self.title,
            opening=opening,
            sections=sections,
            compare=self.compare,
            pictures=self.pictures,
            budget=int(self.budget * 2**20),
            bootstrap=Bootstrap(self.draws),
            apart=self.side_by_side,
        )


def read_runs(paths: Sequence[epath.PathLike], *, apart: bool = False) -> tuple[Path, list[Result]]:
    """The rows of several files, and the folder that all their pictures are relative to.

    Files that hold different systems, suites or metrics are put together. Where two hold the same,
    they are two runs, and each run's systems are distinguished by the name of its file or folder.

    Args:
        apart: rows of different settings get systems of different names; see
            `provenance.side_by_side`.

    Raises:
        DataError: as `read_results`.
        ConfigError: if a file is named twice, or lies in a bucket.
    """
    for path in paths:
        if "://" in str(path):
            raise ConfigError(
                f"{path}: pictures are sought beside the results; copy their folder to a local disk"
            )
    runs = [read_results(path) for path in paths]
    if apart:
        renamed = iter(side_by_side([row for run in runs for row in run]))
        runs = [[next(renamed) for _ in run] for run in runs]
    whole = [Path(results_file(path)).resolve() for path in paths]
    for place, path in enumerate(whole):
        if path in whole[:place]:
            raise ConfigError(f"{paths[place]}: named twice; name each file once")
    root = Path(os.path.commonpath([path.parent for path in whole]))
    keys = [row.key for run in runs for row in run]
    names = _run_names(whole, root) if len(set(keys)) < len(keys) else None
    rows = []
    for place, (path, run) in enumerate(zip(whole, runs, strict=True)):
        folder = Path(os.path.relpath(path.parent, root))
        suffix = f" ({names[place]})" if names else ""
        for row in run:
            rows.append(
                dataclasses.replace(
                    row,
                    system=f"{row.system}{suffix}",
                    original=_under(folder, row.original),
                    edited=_under(folder, row.edited),
                )
            )
    return root, rows


def _under(folder: Path, name: str) -> str:
    return os.path.normpath(folder / name) if name else ""  # one file has one name


def _run_names(paths: Sequence[Path], root: Path) -> list[str]:
    """The shortest names that differ: of the files, of their folders, or whole."""
    candidates = [
        [path.stem for path in paths],
        [path.parent.name for path in paths],
        [str(path.relative_to(root).with_suffix("")) for path in paths],
    ]
    return next((names for names in candidates if len(set(names)) == len(names)), candidates[-1])
