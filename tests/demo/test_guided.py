"""What reward guidance does: by its scale, and by what it leads away from."""

from mre_jax.demo.guided import guided_table
from mre_jax.demo.systems import BEST, GUIDED, GUIDED_EDITS, REWARD
from tests.demo.rows import rows


def test_each_way_to_guide_is_compared_with_its_own_editor_without():
    values = {REWARD: 3.0, GUIDED: 3.25} | {way.edits: 3.5 for way in GUIDED_EDITS}
    values["reward dropout"] = 2.0
    found = [row for name, value in values.items() for row in rows(name, BEST, value)]
    lines = guided_table(found, 1.2).splitlines()
    assert len(lines) == 2 + 2 + len(GUIDED_EDITS)
    assert lines[2].split()[:3] == ["reward", "1", "3.00"]
    assert lines[3].split()[:4] == ["reward", "1.2", "0,0,0", "+0.25"]
    assert lines[4].split()[:4] == ["reward", "1.5", "0,0,0", "+0.50"]
    (from_none,) = [line for line in lines if line.startswith("reward dropout  2      none")]
    assert "+1.50" in from_none
