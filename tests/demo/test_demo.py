"""`mre demo --quick`: the chain from PyTorch weights to the report, without its claims."""

import json
import subprocess
import sys

import pytest

from mre_jax import cli


@pytest.mark.slow
def test_the_quick_demo_tells_the_whole_story(tmp_path):
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "mre_jax", "demo", "--quick", "--out", str(out)]
    first = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "$ mre train" in first.stdout
    pictures = first.stdout.index("first_edits.png")
    assert pictures < first.stdout.index("$ mre convert")
    page = (out / "report.html").read_text()
    assert "Rewards as a condition" in page
    for name in ("contact_sheet.png", "first_edits.png"):
        assert (out / name).stat().st_size > 1000
    assert "Table 8" in (out / "tables.txt").read_text()
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "done before" in again.stdout
    assert "$ mre train" not in again.stdout


def test_a_folder_of_another_size_is_refused(tmp_path, capsys):
    (tmp_path / "scale.json").write_text(json.dumps({"examples": 1}))
    assert cli.main(["demo", "--quick", "--out", str(tmp_path)]) == 78
    assert "--restart" in capsys.readouterr().err
