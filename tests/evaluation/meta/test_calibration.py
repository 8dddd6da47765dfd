import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.meta.calibration import Calibration, CalibrationSpec, calibrate, isotonic
from mre_jax.evaluation.provenance import comparable
from mre_jax.evaluation.results import append_results
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.spec import StatisticsSpec
from tests.evaluation import commands
from tests.evaluation.rows import series

DRAWS = Bootstrap(200)


def judged(rng, groups=40):
    """A new judge that scores a point too low, and errs; an old one that is right."""
    truth = rng.integers(1, 6, groups * 7).astype(float)
    seen = np.clip(truth - 1 + rng.choice([0, 0, 0, 1], len(truth)), 0, 5)
    return series(seen, measure="new", prompt_hash="n"), series(truth, measure="old")


def test_the_map_is_scipy_s_isotonic_regression():
    scores, values = np.arange(5.0), np.asarray([1.0, 3.0, 2.0, 2.5, 5.0])
    counts = np.asarray([3.0, 1.0, 4.0, 2.0, 1.0])
    wanted = isotonic_regression(values, weights=counts).x
    np.testing.assert_allclose(isotonic(scores, values * counts, counts), wanted)
    # What was never seen lies on the line between its neighbours.
    few = counts * [1, 0, 1, 1, 1]
    assert isotonic(scores, values * few, few)[1] == pytest.approx(1.5)


def test_a_shifted_judge_is_brought_onto_the_scale_of_the_other():
    found = calibrate(*judged(np.random.default_rng(0)), DRAWS).maps["following"]
    assert np.all(np.diff(found.values) >= 0)
    assert found(0) == pytest.approx(1, abs=0.2)
    assert found.before > 0.7 and found.after < 0.5
    assert all(a <= y <= b for a, y, b in zip(found.low, found.values, found.high, strict=True))
    assert (found.items, found.groups) == (280, 40)
    assert found(-9) == found.values[0] and found(9) == found.values[-1]


def test_mapped_rows_name_both_judges_and_go_into_no_mean_with_either(tmp_path):
    new, old = judged(np.random.default_rng(0))
    calibration = calibrate(new, old, DRAWS)
    calibration.write(tmp_path / "map.json")
    assert Calibration.read(tmp_path / "map.json") == calibration
    mapped = calibration.apply(new)
    assert {row.measure for row in mapped} == {"new calibrated to old"}
    assert {row.passed for row in mapped} == {None}
    assert not comparable([mapped[0], old[1]]) and not comparable([mapped[0], new[1]])
    assert calibration.apply([*new, old[0]])[-1] is old[0]
    with pytest.raises(DataError, match="no result is by it and its prompts"):
        calibration.apply(old)


def test_it_is_applied_on_request_alone(tmp_path, capsys):
    new, old = judged(np.random.default_rng(0))
    for name, rows in (("new", new), ("old", old)):
        (tmp_path / name).mkdir()
        append_results(tmp_path / name / "results.jsonl", rows)
    out = tmp_path / "map.json"
    given = ("calibrate", "--new", tmp_path / "new", "--old", tmp_path / "old", "--out", out)
    assert commands.evaluate(*given) == 0
    assert "new calibrated to old:" in capsys.readouterr().out
    plain, mapped = (
        StatisticsSpec((tmp_path / "new",), draws=50, calibration=path).lines()[0]
        for path in (None, out)
    )
    assert plain != mapped
    mean = float(mapped.split("following ")[1].split()[0])
    assert mean == pytest.approx(np.mean([row.value for row in old]), abs=0.05)


def test_what_cannot_be_calibrated_is_told(tmp_path):
    new, _ = judged(np.random.default_rng(0), 3)
    with pytest.raises(DataError, match="both results are by new"):
        calibrate(new, new, DRAWS)
    with pytest.raises(DataError, match="share no metric"):
        calibrate(new, series([1.0], measure="old", metric="quality"), DRAWS)
    with pytest.raises(ConfigError, match="name two judges' results"):
        CalibrationSpec("a", "a", "out")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(DataError, match="no calibration"):
        Calibration.read(tmp_path / "other.json")
