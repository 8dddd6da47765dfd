"""Prompts of benchmarks' authors, from files laid out as theirs; the words are made up."""

import json

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.judges.packs.pack import load_pack

RELEASED = """
import openai

def call(pair, prompt):
    client = openai.AzureOpenAI(api_key="")
    return client.chat.completions.create(
        model="some-model",
        messages=[
            {"role": "system", "content": "You judge." "------" "- Look.\\n"},
            {"role": "user", "content": [
                {"type": "text", "text":
                    f"Instruction: {prompt}\\n"
                    "Answer with keys 'FLAG' and 'score', as {'FLAG': 'yes', 'score': 4.5}."},
                {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{one}"}},
                SECOND
            ]},
        ],
        max_tokens=50,
        timeout=100,
    )
"""
SECOND = '{"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{two}"}},'
GEDIT = '''
_context_no_delimit = """Judge {"score": [...]}."""
_prompts_0shot_two_image_edit_rule = """Two images."""
_prompts_0shot_tie_rule_SC = """Instruction: <instruction>"""
_prompts_0shot_rule_PQ = """One image."""
_another = """<prompt>"""
'''
IMGEDIT = (
    "Grade it.\nExample Response Format:\n"
    "Brief reasoning: A short explanation of the score.\n"
    "Compliance: A number from 1 to 5.\nDetail & Light: A number from 1 to 5.\n"
    "instruction is : <edit_prompt>."
)


@pytest.fixture
def released(tmp_path):
    for name, flag, second in (
        ("eval_following.py", "following", SECOND),
        ("eval_keep_detail.py", "consistent", SECOND),
        ("eval_quality.py", "clear", ""),
    ):
        text = RELEASED.replace("FLAG", flag).replace("SECOND", second)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_papers_released_code(released):
    pack = load_pack(f"official:{released}")
    assert (pack.name, pack.perspectives) == (
        "released-code",
        ("following", "preserving", "quality"),
    )
    assert pack.settings == {"form": "text", "temperature": None, "max_tokens": 50}
    following, quality = pack.prompt("following"), pack.prompt("quality")
    assert following.system == "You judge.------- Look.\n"
    assert following.message("go").startswith("Instruction: go\nAnswer with keys 'following'")
    assert "{'following': 'yes', 'score': 4.5}" in following.user
    assert (following.pictures, quality.pictures) == (("original", "edited"), ("edited",))
    assert (quality.answer.passed, quality.answer.scores) == ("clear", ("score",))


def test_gedit(tmp_path):
    folder = tmp_path / "GEdit-Bench" / "viescore"
    folder.mkdir(parents=True)
    (folder / "vie_prompts.py").write_text(GEDIT)
    pack = load_pack(f"official:{tmp_path}")
    assert pack.name == "gedit-official" and pack.settings["max_tokens"] == 1400
    sc, pq = pack.prompt("sc"), pack.prompt("pq")
    assert sc.message("go") == 'Judge {"score": [...]}.\nTwo images.\nInstruction: go'
    assert (sc.answer.length, sc.answer.combine) == (2, "min")
    assert pq.user == 'Judge {"score": [...]}.\nOne image.' and pq.pictures == ("edited",)


def test_imgedit(tmp_path):
    (tmp_path / "prompts.json").write_text(json.dumps({"add": IMGEDIT, "style": f"S. {IMGEDIT}"}))
    pack = load_pack(f"official:{tmp_path / 'prompts.json'}")
    answer = pack.prompt("overall", "style").answer
    assert answer.scores == ("Compliance", "Detail & Light") and answer.text == "Brief reasoning"
    assert (answer.form, answer.combine) == ("lines", "mean")
    assert pack.prompt("overall", "add").message("go").endswith("instruction is : go.")
    with pytest.raises(ConfigError, match="no prompt for instructions of type 'other'"):
        pack.prompt("overall", "other")
    (tmp_path / "UGE_bench.py").write_text('prompt = """\nGrade <edit_prompt>.\n"""\n')
    uge = load_pack(f"official:{tmp_path / 'UGE_bench.py'}").prompt("overall")
    assert uge.user == "\nGrade {instruction}.\n" and uge.answer.scores == ()
    with pytest.raises(DataError, match=r"UGE_bench\.py and .*prompts\.json are both in it"):
        load_pack(f"official:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vie_prompts.py", "x = 1\n", "no text '_context_no_delimit' in it"),
        ("vie_prompts.py", GEDIT.replace("<instruction>", "it"), "<instruction> is not in the"),
        ("vie_prompts.py", "x = (\n", "no Python that can be read"),
        ("prompts.json", "[]", "want an object of prompts by type of edit"),
        ("prompts.json", '{"add": 1}', "no text 'add' in it"),
        ("eval_quality.py", "x = 1\n", r"eval_following\.py: no such file"),
        ("other.py", "", "want vie_prompts.py, prompts.json"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load_pack(f"official:{tmp_path}")


def test_a_released_script_of_another_form(released):
    for old, new, message in (
        ('"You judge." "------" "- Look.\\n"', "HEADING", "want a literal, got 'HEADING'"),
        ("keys 'clear'", "key 'clear'", "the messages are not those of the released code"),
        ("max_tokens=50", "most=50", "no request with messages and max_tokens"),
        ("max_tokens=50", "max_tokens=60", "want one max_tokens"),
    ):
        text = RELEASED.replace("FLAG", "clear").replace("SECOND", "")
        (released / "eval_quality.py").write_text(text.replace(old, new))
        with pytest.raises(DataError, match=message):
            load_pack(f"official:{released}")


def test_a_path_that_is_not_there():
    with pytest.raises(ConfigError, match="official prompts nowhere: no such file or folder"):
        load_pack("official:nowhere")
