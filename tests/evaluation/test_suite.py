"""What a suite is: a class, a line in the register, a call."""

import dataclasses
import functools
import shutil
import sys

import pytest

from mre_jax.errors import ConfigError
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.judging import JudgedSuite
from mre_jax.evaluation.metrics.networks import NetworkSpec
from mre_jax.evaluation.pairs.spec import PairwiseSpec
from mre_jax.evaluation.results import read_results
from mre_jax.evaluation.suite import MeasuredSuite
from mre_jax.evaluation.suites import SUITES, suite_class
from mre_jax.evaluation.suites.real_edit import RealEdit, read_real_edit
from mre_jax.evaluation.system import SystemSpec
from mre_jax.judges.packs.pack import PACKS, load_pack
from mre_jax.judges.spec import JudgeSpec
from tests.evaluation.commands import evaluate
from tests.evaluation.networks import brightness
from tests.evaluation.suites.test_case_table import edits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bright(MeasuredSuite):
    """How bright edits are.

    Attributes:
        data: a picture.
        darkness: number to measure from.
    """

    darkness: float = 0.0
    networks: NetworkSpec = dataclasses.field(default_factory=NetworkSpec)

    name = "bright"

    @functools.cached_property
    def parts(self):
        return {self.name: [Case("a", "a", "", "make it brighter", self.data)]}

    def measure(self, edits, networks):
        values = [brightness(picture) - self.darkness for picture in edits.edited]
        yield edits.rows("bright", values, "mean of RGB")


def test_a_new_suite_is_a_class_and_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SUITES, "bright", ("bright", "Bright", "how bright edits are"))
    monkeypatch.setitem(sys.modules, "mre_jax.evaluation.suites.bright", sys.modules[__name__])
    made = edits(tmp_path, ["a"], grey=51)
    options = ("--system", "x", "--images", made, "--darkness", "0.1", "--out", tmp_path / "out")
    assert evaluate("bright", tmp_path / "a.png", *options) == 0
    assert "bright x: bright 0.1 (1/1)" in capsys.readouterr().out
    (row,) = read_results(tmp_path / "out")
    assert (row.suite, row.metric, row.measure) == ("bright", "bright", "mean of RGB")


def test_a_suite_runs_from_python(toy, tmp_path):
    for case in read_real_edit(toy / "benchmark"):
        shutil.copy(case.original, tmp_path / f"{case.id}.png")
    system = SystemSpec("untouched", images=tmp_path)
    suite = RealEdit(
        data=toy / "benchmark", out=tmp_path / "out", system=system, judge=JudgeSpec("toy")
    )
    rows = suite.evaluate()
    assert rows == read_results(tmp_path / "out") and len(rows) == 14 * 3
    assert suite.evaluate() == rows
    assert suite.summary(rows)[0].startswith("real-edit untouched: following ")


def test_every_suite_is_registered_by_a_class_that_says_what_its_options_are():
    for name in SUITES:
        made = suite_class(name)
        assert dataclasses.is_dataclass(made) and made.__doc__
    with pytest.raises(ConfigError, match="suite 'other': want one of real-edit"):
        suite_class("other")


def test_the_help_names_every_pack():
    for name in PACKS:
        suite = PairwiseSpec if load_pack(name).pairwise else JudgedSuite
        assert name in " ".join(suite.__doc__.split())
