import json

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.begun_folder import Difference, begin, differences, refuse

SETTINGS = {"seed": 1, "sizes": (256, 512), "cache": {"vae": "a", "text": None}}


def test_the_same_settings_go_on_and_the_mark_stays(tmp_path):
    mark = tmp_path / "set" / "run.json"
    begin(mark, SETTINGS)
    before = mark.read_bytes()
    begin(mark, dict(reversed(SETTINGS.items())))
    assert mark.read_bytes() == before
    assert json.loads(before) == json.loads(json.dumps(SETTINGS))


def test_other_settings_are_refused_and_all_of_them_named(tmp_path):
    begin(tmp_path / "run.json", SETTINGS)
    other = {"seed": 2, "sizes": [256, 512], "cache": {"vae": "b", "text": None}, "steps": 3}
    with pytest.raises(ConfigError) as caught:
        begin(tmp_path / "run.json", other)
    assert str(caught.value) == (
        f"{tmp_path} was begun with other settings: cache.vae was 'a' and is 'b'; "
        "seed was 1 and is 2; steps was None and is 3; take the same, or another --out"
    )


def test_what_is_recorded_besides_decides_nothing(tmp_path):
    begin(tmp_path / "run.json", SETTINGS, record={"versions": {"jax": "1"}})
    begin(tmp_path / "run.json", SETTINGS, record={"versions": {"jax": "2"}})
    assert json.loads((tmp_path / "run.json").read_text())["versions"] == {"jax": "1"}
    with pytest.raises(ConfigError, match=r"cache was \{.*\} and is None; .*; ask again"):
        begin(tmp_path / "run.json", {}, record={}, remedy="ask again")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"holds 'thesis\.tex' and no prepared set"):
        begin(tmp_path / "run.json", SETTINGS, kind="prepared set")
    (tmp_path / "thesis.tex").unlink()
    begin(tmp_path / "run.json", SETTINGS, kind="prepared set")


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"settings": 3}', "{"])
def test_a_damaged_mark_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=r"run\.json: damaged"):
        begin(tmp_path / "run.json", SETTINGS, record={})


def test_nothing_differs():
    assert list(differences(SETTINGS, SETTINGS)) == []
    assert list(differences({}, {"a": None})) == []
    refuse("the run", [])
    with pytest.raises(
        ConfigError, match=r"^the run was begun with other settings: a\.b was 1 and is 2; or else$"
    ):
        refuse("the run", [Difference("a.b", 1, 2)], "or else")
