import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mre_jax import cli
from mre_jax.annotation import annotate as job
from mre_jax.annotation.annotate import AnnotateSpec
from mre_jax.annotation.compaction import compact
from mre_jax.data.join import join
from mre_jax.data.sources import open_source
from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.judges.journal import read_verdicts
from mre_jax.judges.picture import Encoding
from mre_jax.judges.spec import JudgeSpec
from mre_jax.reward.file import read_rewards
from tests.evaluation.buckets import mount
from tests.judges.conftest import KEY
from tests.judges.questions import picture
from tests.judges.server import MODEL, completion

JUDGE = f"openai:{MODEL}"
COMMAND = """
import sys
from mre_jax import cli
from mre_jax.annotation import annotate as job
from mre_jax.annotation.annotate import AnnotateSpec
cli.COMMANDS["annotate"] = ("mre_jax.commands.annotate", "")
sys.exit(cli.main(sys.argv[1:]))
"""


def test_the_toy_judge_finds_the_toy_world_s_own_rewards(toy, annotate, tmp_path, capsys):
    journal, rewards = tmp_path / "j.jsonl", tmp_path / "R.json"
    assert annotate(toy, "--judge", "toy", "--out", journal, "--rewards", rewards) == 0
    assert json.loads(rewards.read_text()) == json.loads((toy / "RewardEdit.json").read_text())
    shown = capsys.readouterr().out
    assert shown.splitlines()[1].startswith("following")
    assert "12 rewards" in shown
    assert shown.count("100.0%") >= 3  # the coverage
    size = journal.stat().st_size
    annotate(toy, "--judge", "toy", "--out", journal)
    assert journal.stat().st_size == size
    # What `mre prepare --rewards` does with it.
    source = open_source("instruct_pix2pix", toy / "triplets")
    assert len(join(source, read_rewards(rewards))) == 12


def test_annotate_from_python_returns_what_the_command_prints(toy, annotate, tmp_path, capsys):
    files = {"rewards": f"{tmp_path}/R.json", "charts": f"{tmp_path}/charts"}
    spec = AnnotateSpec(str(toy), out=f"{tmp_path}/j", judge=JudgeSpec("toy"), **files)
    found = job.annotate(spec)
    assert capsys.readouterr().out == ""
    assert len(found.compaction.rewards) == found.statistics.scores["quality"].total() == 12
    assert found.compaction.rewards == read_rewards(spec.rewards)
    words = [part for name, file in files.items() for part in (f"--{name}", file)]
    annotate("--out", spec.out, *words)
    assert capsys.readouterr().out == f"{found}\n"
    assert str(found).endswith("words.png: of 12 rewards")


def test_an_estimate_from_python_sends_nothing(toy, server, tmp_path):
    spec = AnnotateSpec(str(toy), out=f"{tmp_path}/j", judge=JudgeSpec(JUDGE, base_url=server.url))
    assert job.estimate(spec).requests == 36
    job.annotate(dataclasses.replace(spec, max_examples=2))
    assert (job.estimate(spec).answered, server.requests.total()) == (6, 6)


def test_a_journal_alone_is_summed_up(toy, annotate, tmp_path, capsys):
    annotate(toy, "--judge", "toy", "--out", tmp_path / "j", "--max-examples", 3)
    capsys.readouterr()
    annotate("--out", tmp_path / "j", "--rewards", tmp_path / "R.json")
    assert len(read_rewards(tmp_path / "R.json")) == 3
    assert "by toy-1 (9)" in capsys.readouterr().out


def test_the_charts_of_a_journal_are_those_of_the_set_it_makes(toy, annotate, tmp_path, capsys):
    pytest.importorskip("wordcloud")
    journal, rewards = tmp_path / "j", tmp_path / "R.json"
    annotate(toy, "--judge", "toy", "--out", journal, "--self-consistency", 6)
    annotate("--out", journal, "--rewards", rewards, "--charts", tmp_path / "charts")
    assert f"{tmp_path}/charts/words.png: of 12 rewards" in capsys.readouterr().out
    shards = tmp_path / "shards"
    words = ["prepare", "instruct_pix2pix", toy / "triplets", "--rewards", rewards, "--out", shards]
    assert cli.main([*map(str, words)]) == 0
    assert cli.main(["data", "stats", str(shards), "--out", str(tmp_path / "stats")]) == 0
    for name in ("scores.png", "words.png"):
        chart, expected = (tmp_path / folder / name for folder in ("charts", "stats"))
        assert chart.read_bytes() == expected.read_bytes()


def test_some_are_asked_twice_and_compared(toy, annotate, tmp_path, capsys):
    journal = tmp_path / "j"
    annotate(toy, "--judge", "toy", "--out", journal, "--self-consistency", 5)
    repeated = [v for v in read_verdicts(journal) if v.repeat]
    assert len(repeated) == 15
    assert "asked twice, quality: 100.0% of 5 the same" in capsys.readouterr().out
    assert len(compact(journal).rewards) == 12


@pytest.mark.parametrize("prepared", (False, True))
def test_journals_of_parts_are_one_when_one_follows_the_other(prepared, toy, annotate, tmp_path):
    data = toy
    if prepared:
        data = tmp_path / "shards"
        assert cli.main(["prepare", "instruct_pix2pix", f"{toy}/triplets", "--out", str(data)]) == 0
    scenes = ("--scenes", toy / "triplets") if prepared else ()
    annotate(data, "--judge", "toy", *scenes, "--out", tmp_path / "whole")
    for number in range(5):
        part = tmp_path / f"part-{number}"
        annotate(data, "--judge", "toy", *scenes, "--shard", f"{number}/5", "--out", part)
        assert len(compact(part).rewards) in (2, 3)
        with (tmp_path / "joined").open("ab") as joined:
            joined.write(part.read_bytes())
    assert compact(tmp_path / "joined").rewards == compact(tmp_path / "whole").rewards
    assert annotate("--out", tmp_path / "joined", "--rewards", tmp_path / "R.json") == 0


def test_a_prepared_set_is_annotated_by_its_ids(toy, annotate, server, tmp_path):
    shards = tmp_path / "shards"
    assert cli.main(["prepare", "instruct_pix2pix", f"{toy}/triplets", "--out", str(shards)]) == 0
    annotate(shards, "--judge", JUDGE, "--base-url", server.url, "--out", tmp_path / "j")
    assert set(compact(tmp_path / "j").rewards) == set(read_rewards(toy / "RewardEdit.json"))
    assert server.requests.total() == 36


def test_sets_in_a_bucket_are_annotated_as_on_a_disk(toy, annotate, tmp_path, monkeypatch):
    bucket = tmp_path / "bucket"
    shutil.copytree(toy, bucket / "toy")
    words = ["prepare", "instruct_pix2pix", f"{toy}/triplets", "--out", f"{bucket}/shards"]
    assert cli.main([*words, "--max-examples", "2"]) == 0
    mount(monkeypatch, "gs://b", bucket)
    monkeypatch.setenv("MRE_DATA_CACHE", str(tmp_path / "copies"))
    rewards = tmp_path / "R.json"
    annotate("gs://b/toy", "--judge", "toy", "--out", tmp_path / "j", "--rewards", rewards)
    assert json.loads(rewards.read_text()) == json.loads((toy / "RewardEdit.json").read_text())
    replay = ("--judge", f"replay:{tmp_path / 'j'}", "--out", tmp_path / "again")
    annotate("gs://b/shards", *replay, "--rewards", "gs://b/R.json")
    assert len(read_rewards(bucket / "R.json")) == 2


def test_a_set_without_folders_finds_its_rewards_again(annotate, server, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(picture())
    rows = [{"original": "a.png", "edited": "b.png", "instruction": f"go {n}"} for n in range(2)]
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--source", "table", "--judge", JUDGE, "--base-url", server.url]
    annotate(table, *words, "--out", tmp_path / "j", "--rewards", tmp_path / "R.json")
    assert len(join(open_source("table", table), read_rewards(tmp_path / "R.json"))) == 2


def test_the_pictures_are_sent_as_asked_for(toy, annotate, server, tmp_path):
    words = [toy, "--judge", JUDGE, "--base-url", server.url, "--max-examples", 1]
    annotate(*words, "--out", tmp_path / "j")
    annotate(*words, "--out", tmp_path / "small", "--picture", "jpeg:75:64")
    assert server.requests.total() == 6  # other bytes are another question


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (("--picture", "jpeg:75:64"), "pictures 'to-jpeg:95', not 'jpeg:75:64'"),
        (("--judge-option", "temperature=1.7"), "temperature 0.0, not 1.7"),
        (("--judge-option", "detail=low"), "detail None, not 'low'"),
    ],
)
def test_a_journal_goes_on_as_it_began(toy, annotate, server, tmp_path, other, message):
    """Half a set in one way and half in another made one set of rewards, without a word."""
    words = [toy, "--judge", JUDGE, "--base-url", server.url]
    annotate(*words, "--out", tmp_path / "j", "--max-examples", 1)
    with pytest.raises(DataError, match=f"it began with {message}; go on with the same"):
        annotate(*words, "--out", tmp_path / "j", "--max-examples", 2, *other)
    assert server.requests.total() == 3  # nothing was paid for it
    annotate(*words, "--out", tmp_path / "rest", "--max-examples", 2, *other)
    both = [(tmp_path / name).read_text() for name in ("j", "rest")]
    (tmp_path / "both").write_text("".join(both))
    with pytest.raises(DataError, match=r"were judged with .*; keep one journal a way to judge"):
        compact(tmp_path / "both")


def test_a_model_is_sent_jpegs_unless_a_journal_has_begun_otherwise(
    toy, annotate, server, tmp_path, capsys
):
    """PNG files of 20,000 triplets are 15 GB; those that were paid for are not asked for again."""
    words = [toy, "--judge", JUDGE, "--base-url", server.url, "--max-examples", 1]
    annotate(*words, "--out", tmp_path / "new")
    assert "pictures are sent as to-jpeg:95" in capsys.readouterr().out
    assert {verdict.settings["pictures"] for verdict in read_verdicts(tmp_path / "new")} == {
        "to-jpeg:95"
    }
    assert all("data:image/jpeg;base64" in json.dumps(body) for body in server.bodies)
    annotate(*words, "--out", tmp_path / "old", "--picture", "as-is")
    annotate(*words, "--out", tmp_path / "old", "--dry-run")
    assert "0 requests, 3 answered before" in capsys.readouterr().out
    annotate(*words, "--out", tmp_path / "old")
    assert server.requests.total() == 6


def test_a_finished_journal_is_summed_up_without_decoding_a_picture(
    toy, annotate, server, tmp_path, monkeypatch
):
    """To resume took as long as to encode the whole set."""
    words = [toy, "--judge", JUDGE, "--base-url", server.url, "--out", tmp_path / "j"]
    words += ["--picture", "jpeg:75:64"]
    annotate(*words, "--max-examples", 2)

    def encode(self, data, name):
        raise AssertionError(f"{name} was decoded")

    monkeypatch.setattr(Encoding, "encode", encode)
    annotate(*words, "--max-examples", 2)
    annotate(*words, "--max-examples", 2, "--dry-run")
    assert server.requests.total() == 6


def test_the_ceiling_ends_it_and_more_money_goes_on(toy, annotate, server, tmp_path, capsys):
    words = [toy, "--judge", JUDGE, "--base-url", server.url, "--out", tmp_path / "j"]
    with pytest.raises(ConfigError, match=r"--max-usd 0\.05: 0\.0\d USD are spent"):
        annotate(*words, "--max-usd", 0.05)
    first = server.requests.total()
    assert 0 < first < 36
    assert "coverage" in capsys.readouterr().out
    annotate(*words, "--max-usd", 5)
    assert server.requests.total() == 36


def test_a_dry_run_needs_no_key_and_sends_nothing(toy, annotate, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    annotate(toy, "--judge", JUDGE, "--out", tmp_path / "j", "--dry-run", "--price", "1,2")
    shown = capsys.readouterr().out
    assert "36 requests, 0 answered before" in shown
    assert "in batches: 1" in shown
    assert "prices: yours" in shown
    assert "shut down on 2027-01-14" in shown
    assert not (tmp_path / "j").exists()


def test_batches_by_the_same_command(toy, annotate, server, tmp_path):
    words = ["--judge-option", "poll_seconds=0.01", "--judge-option", "lines=20"]
    annotate(
        toy, "--judge", f"openai-batch:{MODEL}", "--base-url", server.url, *words,
        "--out", tmp_path / "j", "--rewards", tmp_path / "R.json",
    )  # fmt: skip
    assert len(read_rewards(tmp_path / "R.json")) == 12
    assert (server.created, server.requests.total()) == (2, 36)


def test_what_had_no_answer_is_said_and_asked_again(toy, annotate, server, tmp_path):
    words = [toy, "--judge", JUDGE, "--base-url", server.url, "--out", tmp_path / "j"]
    words += ["--max-examples", 1]
    with pytest.raises(
        BusyError, match=r"none of 3 answers has a score.*no answer in time.*run it again"
    ):
        annotate(*words, "--judge-option", "timeout=0.000001")
    annotate(*words)
    assert len(compact(tmp_path / "j").rewards) == 1


@pytest.mark.parametrize("word", ["null", "none", "None", ""])
def test_a_setting_is_left_out_by_any_word_for_nothing(toy, annotate, server, tmp_path, word):
    words = [toy, "--judge", JUDGE, "--base-url", server.url, "--out", tmp_path / "j"]
    annotate(*words, "--max-examples", 1, "--judge-option", f"temperature={word}")
    assert len(server.bodies) == 3 and not any("temperature" in body for body in server.bodies)


def test_a_journal_without_any_score_is_no_success(toy, annotate, server, tmp_path, capsys):
    """Coverage 0 ended with 0; asked again, it was paid for again."""
    words = [toy, "--judge", JUDGE, "--base-url", server.url, "--out", tmp_path / "j"]
    words += ["--max-examples", 2]
    server.refuses = lambda body: (200, completion(body, "malformed"))
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"none of 6 answers .*6 invalid.*form=auto"):
            annotate(*words)
        assert "0.0%" in capsys.readouterr().out
        assert len(server.bodies) == 12  # what is final is not paid for again
    server.refuses = lambda body: None
    assert annotate(*words, "--again", "invalid") == 0


def test_a_perspective_without_any_score_is_no_success(toy, annotate, server, tmp_path):
    """No example has a reward then; it ended with 0, as if a few answers were lacking."""
    words = [toy, "--judge", JUDGE, "--base-url", server.url, "--out", tmp_path / "j"]

    def one_picture(body):
        pictures = json.dumps(body).count("image_url") // 2
        return (400, {"error": "Image could not be loaded"}) if pictures == 1 else None

    server.refuses = one_picture
    with pytest.raises(ConfigError, match=r"quality: none of 2 answers has a score \(2 rejected\)"):
        annotate(*words, "--max-examples", 2)
    server.refuses = lambda body: None
    assert annotate(*words, "--max-examples", 2, "--again", "rejected") == 0


def test_answers_of_two_models_make_no_rewards(toy, annotate, server, tmp_path):
    words = ["--base-url", server.url, "--out", tmp_path / "j", "--max-examples", 2]
    annotate(toy, "--judge", JUDGE, *words)
    with pytest.raises(DataError, match=f"it began with model '{MODEL}', not 'toy-1'"):
        annotate(toy, "--judge", "toy", "--out", tmp_path / "j", "--max-examples", 3)
    # Models of one name at the server, of two snapshots.
    text = (tmp_path / "j").read_text()
    other = text.replace(f'"model": "{MODEL}", "prompt', '"model": "other", "prompt', 1)
    assert other != text
    (tmp_path / "j").write_text(other)
    with pytest.raises(DataError, match=rf"several models \({MODEL}, other\)"):
        compact(tmp_path / "j")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no such file"),
        (["TOY", "--judge", "gpt"], "judge 'gpt': want one of openai"),
        (["TOY"], "no --judge"),
        (["TMP", "--judge", "toy"], "layout is not recognised"),
        (["/nowhere", "--judge", "toy"], "no such file"),
        (["TOY", "--judge", "toy", "--dry-run"], "nothing to estimate"),
        (["TOY", "--judge", "toy", "--price", "1,2"], "takes no --base-url"),
        (["TOY", "--judge", "toy", "--self-consistency", "13"], "want 0 to 12"),
        (["TOY", "--judge", "toy", "--pack", "nope"], "prompt pack 'nope'"),
        (["TOY", "--judge", "toy", "--pack", "viescore-ours"], "toy judge scores"),
        (["TOY", "--judge", "toy", "--picture", "gif"], "picture 'gif'"),
        (["TOY", "--judge", "toy", "--judge-option", "x=1"], "no option 'x'"),
        (["TOY", "--judge", "toy", "--judge-option", "x"], "want NAME=VALUE"),
        (["TOY", "--judge", "openai:mine", "--max-usd", "1"], "no price is known for mine"),
        (["TOY", "--judge", JUDGE, "--max-usd", "-1"], "max-usd -1"),
        (["--judge", "toy"], "no DATA"),
    ],
)
def test_bad_input_is_named(toy, annotate, tmp_path, monkeypatch, words, message):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    places = {"TOY": toy, "TMP": tmp_path}
    with pytest.raises((ConfigError, DataError), match=message):
        annotate(*(places.get(word, word) for word in words), "--out", tmp_path / "j")


def test_the_toy_judge_wants_the_toy_world(annotate, toy, tmp_path):
    shutil.copytree(toy / "triplets", tmp_path / "t")
    for path in (tmp_path / "t").glob("*/metadata.jsonl"):
        path.unlink()
    with pytest.raises(DataError, match=r"metadata\.jsonl: no scene in it"):
        annotate(tmp_path / "t", "--judge", "toy", "--out", tmp_path / "j")


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing_and_pays_what_was_under_way_at_most(
    toy, server, tmp_path
):
    journal, rewards = tmp_path / "j.jsonl", tmp_path / "R.json"
    words = ["annotate", toy, "--judge", JUDGE, "--base-url", server.url, "--out", journal]
    words += ["--rewards", rewards, "--concurrency", 3]
    argv = [sys.executable, "-c", COMMAND, *map(str, words)]
    environment = {**os.environ, "OPENAI_API_KEY": KEY}
    server.latency = 0.2
    kills = 0
    while kills < 3:
        before = server.requests.total()
        process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and server.requests.total() < before + 6:
            time.sleep(0.01)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert len(read_rewards(rewards)) == 12
    assert 36 <= server.requests.total() <= 36 + 3 * kills
    verdicts = list(read_verdicts(journal))
    assert (len(verdicts), {v.status for v in verdicts}) == (36, {"ok"})
    assert KEY not in done.stdout + done.stderr + journal.read_text()


def write_table(folder, *changes):
    """Rows of a table; each change is of one of them."""
    whole = picture()
    for name, data in (("a.png", whole), ("b.png", picture()), ("cut.png", whole[:-30])):
        (folder / name).write_bytes(data)
    row = {"original": "a.png", "edited": "b.png"}
    lines = [json.dumps(row | {"instruction": f"go {n}"} | c) for n, c in enumerate(changes)]
    (folder / "t.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "t.jsonl"


BAD = {"instruction": " "}, {"edited": "none.png"}, {"original": "cut.png"}


def test_bad_rows_are_all_listed_and_left_out_on_request(annotate, server, tmp_path, capsys):
    table = write_table(tmp_path, {}, BAD[0], {}, *BAD[1:])
    journal, rewards = tmp_path / "j", tmp_path / "R.json"
    words = [table, "--source", "table", "--judge", JUDGE, "--base-url", server.url]
    words += ["--out", journal, "--rewards", rewards]
    with pytest.raises(DataError, match=r"3 of 5 examples are bad; .*--skip-bad 3$"):
        annotate(*words)
    told = capsys.readouterr().err
    assert "t.jsonl:2: the instruction is empty" in told
    assert "t.jsonl:4: no picture" in told
    assert "t.jsonl:5: original picture: damaged picture" in told
    assert server.requests.total() == 3  # those before the first bad one are kept
    assert not rewards.exists()
    assert annotate(*words, "--skip-bad", 3) == 0
    assert "left out 3 bad examples:\nt.jsonl:2: the instruction" in capsys.readouterr().out
    assert server.requests.total() == 6  # nothing is paid twice
    assert set(read_rewards(rewards)) == {"table-0000000", "table-0000002"}
    with pytest.raises(DataError, match="3 of 5 examples are bad, and 1 may be left out"):
        annotate(*words, "--skip-bad", "20%")


@pytest.mark.parametrize("encoding", ["as-is", "jpeg:90"])
def test_a_set_of_bad_rows_alone_asks_nothing(annotate, server, tmp_path, encoding):
    table = write_table(tmp_path, *BAD)
    words = [table, "--source", "table", "--judge", JUDGE, "--base-url", server.url]
    with pytest.raises(DataError, match="3 of 3 examples are bad; are layout and columns"):
        annotate(*words, "--out", tmp_path / "j", "--picture", encoding, "--skip-bad", 3)
    assert not server.requests


def test_an_estimate_tells_the_bad_rows(annotate, tmp_path, capsys):
    table = write_table(tmp_path, BAD[0], {}, {})
    words = [table, "--source", "table", "--judge", JUDGE, "--out", tmp_path / "j", "--dry-run"]
    with pytest.raises(DataError, match="1 of 3 examples are bad"):
        annotate(*words)
    assert "6 requests" in capsys.readouterr().out
    assert annotate(*words, "--skip-bad", 1) == 0


def test_pairs_of_a_folder_that_are_not_judged_are_told(annotate, toy, server, tmp_path, capsys):
    folder = tmp_path / "toy"
    shutil.copytree(toy / "triplets", folder)
    pairs = json.loads((folder / "seeds.json").read_text())
    name, (seed, *_) = pairs[0]
    for side in "01":
        (file,) = (folder / name).glob(f"{seed}_{side}.*")
        shutil.copy(file, file.with_name(f"77_{side}{file.suffix}"))
    (folder / "seeds.json").write_text(json.dumps([[name, [seed, "77"]], *pairs[1:]]))
    words = [folder, "--judge", JUDGE, "--base-url", server.url, "--out", tmp_path / "j"]
    annotate(*words)
    told = "1 folders hold 2 pairs: one of each is taken for good, 1 are left out (seeds=all"
    assert told in capsys.readouterr().out
