"""A perspective more is an entry in the reward's room: every other room follows."""

import json
import subprocess
import sys


def test_a_fourth_perspective_goes_from_a_table_to_the_tables(tmp_path):
    command = [sys.executable, "-m", "tests.reward.fourth_perspective", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "edits" / "results.jsonl").read_text())
    assert row["request"]["reward_scores"] == [5, 5, 5, 4]
    table = [line.split() for line in done.stdout.splitlines()]
    (heading,) = (words for words in table if "Preserving" in words)
    assert heading[-5:] == ["Following", "Preserving", "Quality", "Style", "Coverage"]
    (ours,) = (words for words in table if words[:1] == ["Ours"])
    assert ours[-2:] == ["3.00", "14/14"], "the paper has no number of it"
