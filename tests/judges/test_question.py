import dataclasses

import pytest

from tests.judges.questions import picture, question


@pytest.mark.parametrize(
    "change",
    [
        {"instruction": "make it snow"},
        {"perspective": "preserving"},
        {"original": picture((1, 2, 3))},
        {"edited": picture((1, 2, 3))},
        {"encoding": "jpeg:75"},
        {"repeat": 1},
    ],
)
def test_the_key_changes_with_all_that_is_sent(change):
    asked = question()
    assert dataclasses.replace(asked, **change).key != asked.key


def test_the_key_does_not_change_with_what_is_not_sent():
    asked = question(perspective="quality")
    for change in ({"item": "other"}, {"extra": {"scene": 1}}, {"original": picture((1, 2, 3))}):
        assert dataclasses.replace(asked, **change).key == asked.key
