"""Suites run a SmartEdit as any editor, and their rows say what read the instructions."""

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import read_results
from mre_jax.io.image import read_image
from tests.evaluation.commands import evaluate
from tests.tiny_smartedit import TEMPLATES, tiny_smartedit

SAMPLING = ("--steps", "1", "--size", "keep", "--batch-size", "1")


@pytest.mark.slow
def test_real_edit_with_a_reward_smartedit(toy, tmp_path):
    out, others = tmp_path / "out", tmp_path / "others.txt"
    others.write_text(TEMPLATES.replace("talk about", "speak of"))
    options = ("--model", tiny_smartedit(True), "--judge", "toy", *SAMPLING, "--out", out)
    assert evaluate("real-edit", toy / "benchmark", "--system", "ours", *options) == 0
    rows = read_results(out / "results.jsonl")
    assert len(rows) == 14 * 3 and {row.condition for row in rows} == {"5,5,5"}
    assert {row.provenance["reply"] for row in rows} == {"teacher_forced"}
    assert {len(row.provenance["templates"]) for row in rows} == {64}
    assert read_image(out / rows[0].edited).size == (16, 16)
    # Other templates make other edits, which do not take the place of these.
    more = ("--templates", others)
    with pytest.raises(ConfigError, match="was begun with other settings: templates was"):
        evaluate("real-edit", toy / "benchmark", "--system", "ours", *options, *more)
    made = out / "edits" / "real-edit" / "ours-5-5-5"
    made.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="is there with templates"):
        evaluate("real-edit", toy / "benchmark", "--system", "ours", *options, *more)
    # Beside them they may stand: an editor is not how its edits were measured.
    assert evaluate("real-edit", toy / "benchmark", "--system", "other", *options, *more) == 0
