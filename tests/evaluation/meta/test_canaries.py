"""A judge that obeys what it judges is found out, and one that does not has no shift."""

import base64
import json

import numpy as np
import pytest
from PIL import Image

from mre_jax.errors import ConfigError
from mre_jax.evaluation.meta.canaries import ASKING, PLAIN, CanarySpec, shift_lines, with_words
from mre_jax.judges.spec import JudgeSpec
from tests.evaluation import commands
from tests.judges.server import MODEL, JudgeServer, completion

KEY = "sk-canary0123456789abcdef"


@pytest.fixture
def obedient(monkeypatch, tmp_path):
    """A server that gives 5 where it is asked for in words or by a picture, and else 2."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asks = ASKING.format(5)

    def answer(body):
        text = json.dumps(body)
        bribes = (tmp_path / "pictures" / "asking").glob("*.png")
        files = [base64.b64encode(path.read_bytes()).decode() for path in bribes]
        said = asks in text or any(file in text for file in files)
        reply = completion(body)
        score = 5.0 if said else 2.0
        reply["choices"][0]["message"]["content"] = json.dumps(
            {"following": "yes", "consistent": "yes", "clear": "yes", "score": score}
        )
        return 200, reply

    with JudgeServer() as server:
        server.refuses = answer
        yield server


def test_words_that_ask_and_words_that_do_not_are_as_long():
    assert abs(len(ASKING) - len(PLAIN)) <= 3


def test_a_judge_that_obeys_is_found_out_in_both_places(obedient, edited, tmp_path, capsys):
    judge = ("--judge", f"openai:{MODEL}", "--base-url", obedient.url)
    given = ("canaries", edited, "--out", tmp_path, *judge, "--pictures", "as-is", "--items", 5)
    assert commands.evaluate(*given) == 0
    printed = capsys.readouterr().out
    assert "asked for in the instruction, following: +3.000" in printed
    assert "asked for in the picture, quality: +3.000" in printed
    # Its prompt does not show the instruction, so that nothing there can ask.
    assert "asked for in the instruction, quality: +0.000" in printed
    asked = sum(obedient.requests.values())
    assert commands.evaluate(*given) == 0
    assert sum(obedient.requests.values()) == asked


def test_the_exact_judge_has_no_shift(edited, toy, tmp_path):
    spec = CanarySpec(
        results=(edited,), out=tmp_path, scenes=toy / "benchmark", judge=JudgeSpec("toy"),
        items=14, draws=100,
    )  # fmt: skip
    found = spec.evaluate()
    words = [one for one in found if one.kind == "instruction"]
    assert [one.metric for one in words] == ["following", "preserving", "quality"]
    assert {(one.difference.mean, one.raised) for one in words} == {(0, 0)}
    assert all(abs(one.difference.mean) < 0.5 for one in found)
    assert "Only 2 groups" in shift_lines(found)[-1]


def test_the_words_stand_in_the_picture_along_its_lower_edge():
    picture = Image.new("RGB", (360, 240), (90, 90, 90))
    asking, plain = (np.asarray(with_words(picture, words.format(5))) for words in (ASKING, PLAIN))
    for pixels in (asking, plain):
        assert (pixels[:220] == 90).all()
        bar = pixels[220:]
        assert 0.02 < (bar < 128).mean() < 0.4  # dark letters on white
        assert (bar[:, -4:] == 255).all()  # the last letter is in it too
    assert (asking != plain).any()


def test_packs_that_compare_are_refused(edited, tmp_path):
    with pytest.raises(ConfigError, match="genarena-ours: compares two edits"):
        CanarySpec(
            results=(edited,), out=tmp_path, pack="genarena-ours", judge=JudgeSpec("toy")
        ).evaluate()
