"""What a checkpoint is asked for when it makes the edits of a benchmark."""

import types

import pytest

from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edits.editor import Editor
from mre_jax.evaluation.system import SystemSpec


@pytest.mark.parametrize(
    ("perspectives", "words", "text"),
    [
        (("preserving",), {}, None),
        (("preserving",), {"preserving": {"3": "The sky changed."}}, "The sky changed."),
        (("preserving",), {"quality": {"3": "Noise."}}, "None"),
        (("following", "quality"), {"quality": {"3": "Noise."}}, "None; Noise."),
    ],
)
def test_a_checkpoint_reads_the_words_of_its_own_perspectives(
    perspectives, words, text, tmp_path, monkeypatch
):
    """One of a single perspective was trained on one text, and never saw three joined."""
    asked = []
    monkeypatch.setattr(
        "mre_jax.editing.sample.sample_items",
        lambda pipeline, items, *rest, **options: asked.extend(items),
    )
    editor = Editor(
        SystemSpec("x", size="keep"),
        types.SimpleNamespace(perspectives=perspectives, device_count=1, checkpoint="c"),
        words,
    )
    case = Case("a", "a", "Add", "add a cat", tmp_path / "a.png")
    editor.edit([case], tmp_path / "edits", (3.0, 3.0, 3.0))
    assert asked[0].request.reward_scores == (3.0, 3.0, 3.0)
    assert asked[0].request.reward_text == text  # None leaves it to the pipeline
