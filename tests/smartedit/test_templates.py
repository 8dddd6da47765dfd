from collections import Counter

import pytest

from mre_jax.errors import DataError
from mre_jax.smartedit.templates import Pair, Templates

OFFICIAL = """####################
1.
Human: Draw from the picture and the text [cap]?\x20
GPT: Certainly, I draw [img].

2.
human: Another one [cap].
gpt: Here [cap] is [img].
"""


def _write(tmp_path, text):
    path = tmp_path / "templates.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["editing", "captions"])
def test_what_ships_is_30_pairs_and_a_system_prompt_that_names_img(kind):
    templates = Templates.default(kind)
    assert len({pair.human for pair in templates.pairs}) == 30
    assert len({pair.gpt for pair in templates.pairs}) == 30
    assert "<img>" in templates.system
    assert templates.own_words


def test_a_file_in_the_official_layout_is_read(tmp_path):
    path = _write(tmp_path, OFFICIAL)
    pairs = (
        Pair("Draw from the picture and the text [cap]?", "Certainly, I draw [img]."),
        Pair("Another one [cap].", "Here [cap] is [img]."),
    )
    assert Templates.read(path) == Templates(Templates.default().system, pairs, own_words=True)
    path = _write(tmp_path, "\ufeffSystem: Be kind, say <img>.\n" + OFFICIAL)
    assert Templates.read(path) == Templates("Be kind, say <img>.", pairs, own_words=False)


def test_an_items_pair_is_its_own():
    templates = Templates.default()
    assert templates.pair(0, "a.png") == templates.pair(0, "a.png")
    drawn = Counter(templates.pair(0, f"{number}.png") for number in range(3000))
    assert len(drawn) == 30 and min(drawn.values()) > 60 and max(drawn.values()) < 145
    other = sum(
        templates.pair(0, f"{number}") != templates.pair(1, f"{number}") for number in range(100)
    )
    assert other > 80
    assert templates.pair(0, "\ud800") in templates.pairs


def test_released_weights_with_our_words_are_warned_of(recwarn):
    Templates("s", Templates.default().pairs).warn_if_own("SmartEdit-7B")
    assert not recwarn
    with pytest.warns(UserWarning, match="SmartEdit-7B was trained with the official.*--templates"):
        Templates.default().warn_if_own("SmartEdit-7B")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no templates"),
        ("System: only\n", "has no templates"),
        ("Human: a [cap]\n", "last Human line has no GPT"),
        ("GPT: b [img].\n", "line 1: gpt out of turn"),
        ("Human: a [cap]\nHuman: b [cap]\nGPT: c [img].", "line 2: human out of turn"),
        ("Human: a\nGPT: b [img].", r"line 1: the Human line has no \[cap\]"),
        ("Human: [cap] [cap]\nGPT: b [img].", r"line 1: the Human line has 2 \[cap\]"),
        ("Human: a [cap]\nGPT: b [img]", r"line 2: the GPT line does not end in ' \[img\]\.'"),
        ("Human: a [cap] <img_0>\nGPT: b [img].", "line 1: <img_0> is a token"),
        ("Human: a [cap]\nGPT: b </s> [img].", "line 2: </s> is a token"),
        ("System: a\nSystem: b", "line 2: a second system prompt"),
        ("\nHumn: a [cap]", "line 2: 'Humn: a .*' is no System, Human or GPT line"),
    ],
)
def test_files_without_their_placeholders_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=f"templates.txt.*{message}"):
        Templates.read(_write(tmp_path, text))


def test_what_is_no_text_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none.txt is missing"):
        Templates.read(tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"b.txt is not UTF-8"):
        Templates.read(tmp_path / "b.txt")
