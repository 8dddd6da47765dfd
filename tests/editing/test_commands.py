"""`mre edit` and `mre sample` as a user runs them, in this process and killed in another."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from mre_jax.cli import main
from mre_jax.io.image import read_image
from mre_jax.io.json_file import read_rows

SAMPLING = ("--steps", "2", "--scheduler", "euler", "--size", "keep")


@pytest.fixture
def photo_file(photo, tmp_path):
    path = tmp_path / "photo.png"
    photo.save(path)
    return path


def write_items(folder, photo, count: int):
    """Items over two sizes, each with its own prompt."""
    photo.save(folder / "wide.png")
    photo.resize((16, 16)).save(folder / "square.png")
    rows = [
        {
            "id": f"edit-{index}",
            "image": "wide.png" if index % 3 else "square.png",
            "prompt": f"number {index}",
            "meta": {"index": index},
        }
        for index in range(count)
    ]
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pictures(folder):
    return {path.name: path.read_bytes() for path in (folder / "images").iterdir()}


def rows(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("command", ["edit", "sample"])
def test_help_answers_without_jax(command):
    code = f"""
import sys
from mre_jax.cli import main
try:
    main([{command!r}, "--help"])
finally:
    print("jax" in sys.modules, file=sys.stderr)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--low-reward" in shown.stdout
    assert shown.stderr.strip() == "False"


def test_edit_writes_the_picture(reward_torch, reward_folder, photo_file, tmp_path, capsys):
    out = tmp_path / "out.png"
    options = ("--model", reward_folder, "--reward", "5,5,5", "-o", out, *SAMPLING)
    assert run("edit", photo_file, "make it snow", *options) == 0
    assert read_image(out).size == (24, 16)
    assert capsys.readouterr().out == f"{out}: 24x16\n"


@pytest.mark.filterwarnings("default:.*at scale")
def test_edit_merges_loras_and_says_so(plain_torch, plain_folder, photo_file, tmp_path, capsys):
    lora = tmp_path / "style.safetensors"
    save_arrays({"lora_unet_conv_out.diff_b": np.full(4, 0.5, np.float32)}, lora)
    written = {}
    for number, loras in enumerate(([], [lora], [f"{lora}:0.25", f"{lora}:-0.25"])):
        out = tmp_path / f"{number}.png"
        options = ("--model", plain_folder, "-o", out, *SAMPLING)
        named = [word for given in loras for word in ("--lora", given)]
        assert run("edit", photo_file, "make it snow", *options, *named) == 0
        written[number] = out.read_bytes()
        error = capsys.readouterr().err
        assert error.count("1 layers of unet") == len(loras)
    assert "style.safetensors at scale -0.25: " in error
    assert written[0] != written[1] and written[0] == written[2]


def test_sweep_writes_a_grid(reward_torch, reward_folder, photo_file, tmp_path):
    out = tmp_path / "grid.png"
    options = ("--model", reward_folder, "--sweep", "0,5", "-o", out, *SAMPLING)
    assert run("edit", photo_file, "make it snow", *options) == 0
    grid = np.asarray(read_image(out))
    # Eightfold, so that the captions of 24 pixels do not run into each other.
    assert grid.shape[0] > 4 * 8 * 16 and grid.shape[1] > 3 * 8 * 24


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--reward", "5,5"], 78, "reward_scores: scores (5.0, 5.0): want 3 of them"),
        (["--reward", "5,5,x"], 78, "--reward '5,5,x'"),
        (["--reward", "5,5,9"], 78, "9.0 is not in 0 to 5"),
        (["--size", "17x17"], 78, "size 17x17"),
        (["--guidance-scale", "0"], 78, "guidance_scale=0"),
        (["--scheduler", "pndm"], 78, "scheduler='pndm' is unknown"),
        (["-o", "out.jpg"], 78, "name it *.png"),
        (["-o", "nowhere/out.png"], 65, "no such folder"),
        (["--model", "nowhere"], 65, "nowhere does not exist"),
        (["--weights", "ema"], 65, "holds no EMA weights"),
        (["--lora", "nowhere:0.5"], 65, "nowhere does not exist"),
        (["--lora", "nowhere:high"], 78, "lora nowhere: its scale 'high' is not a finite number"),
        (["--attention", "fast"], 78, "'fast' is unknown"),
    ],
)
def test_edit_refuses_in_one_line(
    reward_torch, reward_folder, photo_file, tmp_path, capsys, arguments, code, message
):
    before = sorted(tmp_path.iterdir())
    out = ["-o", tmp_path / "out.png"]
    options = ["--model", reward_folder, *SAMPLING, *arguments]
    assert run("edit", photo_file, "make it snow", *out, *options) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_without_reward_refuses_one(
    plain_torch, plain_folder, photo_file, tmp_path, capsys
):
    options = ("--model", plain_folder, "--reward", "5,5,5", "-o", tmp_path / "out.png")
    assert run("edit", photo_file, "make it snow", *options) == 78
    assert "takes no reward" in capsys.readouterr().err


def test_sample_makes_every_picture_and_row_once(reward_torch, reward_folder, photo, tmp_path):
    items = write_items(tmp_path, photo, 5)
    options = ("--model", reward_folder, *SAMPLING, "--batch-size", "1")
    assert run("sample", items, "--out", tmp_path / "all", *options) == 0
    assert [row["id"] for row in rows(tmp_path / "all")] == [f"edit-{i}" for i in range(5)]
    assert [row["meta"]["index"] for row in rows(tmp_path / "all")] == list(range(5))
    assert len(rows(tmp_path / "all")[0]["checkpoint"]) == 64

    # Three shards, one after the other, fill one folder with the same pictures.
    for shard in range(3):
        command = ("sample", items, "--out", tmp_path / "split", "--shard", f"{shard}/3")
        assert run(*command, *options) == 0
    assert pictures(tmp_path / "split") == pictures(tmp_path / "all")

    # A run that lost pictures makes them again; a finished one does nothing.
    (tmp_path / "all" / "images" / "edit-2.png").unlink()
    assert run("sample", items, "--out", tmp_path / "all", *options) == 0
    assert pictures(tmp_path / "split") == pictures(tmp_path / "all")


def test_sample_refuses_a_changed_item_and_other_settings(
    reward_torch, reward_folder, photo, tmp_path, capsys
):
    items = write_items(tmp_path, photo, 1)
    options = ("--model", reward_folder, "--out", tmp_path / "out", *SAMPLING)
    assert run("sample", items, *options) == 0
    assert run("sample", items, *options, "--steps", "3") == 78
    assert "num_inference_steps was 2 and is 3" in capsys.readouterr().err
    items.write_text(items.read_text().replace("number 0", "number 1"))
    assert run("sample", items, *options) == 65
    assert "prompt = 'number 0', not 'number 1'" in capsys.readouterr().err


@pytest.fixture
def broken_folder(plain_torch, plain_folder, tmp_path):
    """A model with which a prompt that has a "z" is not finite: a weight as large as there is."""
    folder = tmp_path / "broken"
    shutil.copytree(plain_folder, folder)
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    (name,) = (name for name in tensors if name.endswith("token_embedding.weight"))
    vocabulary = CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab()
    tensors[name][vocabulary["z</w>"]] = 3e38
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def test_an_edit_that_is_not_finite_fails_and_writes_nothing(
    broken_folder, photo_file, tmp_path, capsys
):
    out = tmp_path / "out.png"
    assert run("edit", photo_file, "z", "--model", broken_folder, "-o", out, *SAMPLING) == 65
    assert "not finite from the text encoder on" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.filterwarnings("default:item ")
def test_items_that_fail_stop_no_other_and_are_tried_again(broken_folder, photo, tmp_path, capsys):
    """Neither is ever taken for finished: not the black picture, not the half or missing one."""
    photo.save(tmp_path / "good.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:300])
    items = tmp_path / "items.jsonl"

    def write(**prompts):
        images = {"missing": "missing.png", "half": "half.png"}
        items.write_text(
            "".join(
                json.dumps({"id": id_, "image": images.get(id_, "good.png"), "prompt": prompt})
                + "\n"
                for id_, prompt in prompts.items()
            )
        )

    out = tmp_path / "out"
    command = ("sample", items, "--model", broken_folder, "--out", out, "--batch-size", "2")
    write(a="a", black="z", missing="a", half="a", b="b")
    assert run(*command, *SAMPLING) == 65
    said = capsys.readouterr().err
    assert "warning: item black: the edit is not finite from the text encoder on" in said
    assert "3 of 5 edits failed" in said
    assert [row["id"] for row in rows(out)] == ["a", "b"]
    assert sorted(pictures(out)) == ["a.png", "b.png"]
    failed = dict(row.values() for _, row in read_rows(out / "failed.jsonl"))
    assert sorted(failed) == ["black", "half", "missing"]
    assert "no such file" in failed["missing"] and "damaged" in failed["half"]

    before = pictures(out)
    for name in ("half", "missing"):
        photo.save(tmp_path / f"{name}.png")
    write(a="a", black="c", missing="a", half="a", b="b")
    assert run(*command, *SAMPLING) == 0
    assert "3 edits made" in capsys.readouterr().out
    assert [row["id"] for row in rows(out)] == ["a", "black", "missing", "half", "b"]
    assert before.items() <= pictures(out).items()
    assert not (out / "failed.jsonl").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--reward=", "--reward ''"),
        ("--low-reward=", "--low-reward ''"),
        ("--sweep=", "--sweep ''"),
        ("--scheduler=", "scheduler='' is unknown"),
    ],
)
def test_an_empty_option_is_not_one_that_was_left_out(
    plain_torch, plain_folder, photo_file, tmp_path, capsys, option, message
):
    """As of a script's variable that is not set: it edited by the defaults without a word."""
    options = ("--model", plain_folder, "-o", tmp_path / "out.png", *SAMPLING[:2], option)
    assert run("edit", photo_file, "make it snow", *options) == 78
    assert message in capsys.readouterr().err


def test_what_cannot_be_read_or_written_is_named_before_the_model_is_loaded(
    photo_file, tmp_path, capsys
):
    (tmp_path / "folder.png").mkdir()
    for photo, out, message in (
        ("https://example.org/a.jpg", "out.png", "is on the web, where no file is read or written"),
        (photo_file, "folder.png", "a folder, where a picture is to be written"),
    ):
        assert run("edit", photo, "make it snow", "--model", "m", "-o", tmp_path / out) == 65
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.slow
def test_killed_sampling_resumes_to_the_same_bits(reward_torch, reward_folder, photo, tmp_path):
    items = write_items(tmp_path, photo, 9)
    environment = os.environ | {
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
    }

    def start(out):
        options = [str(reward_folder), "--out", str(out), *SAMPLING, "--batch-size", "2"]
        command = [sys.executable, "-m", "mre_jax", "sample", str(items), "--model", *options]
        return subprocess.Popen(command, env=environment)

    assert start(tmp_path / "whole").wait() == 0
    killed, kills = tmp_path / "killed", 0
    for count in range(2, 9, 2):
        process = start(killed)
        while process.poll() is None and len(list(killed.glob("images/*.png"))) < count:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert start(killed).wait() == 0
    assert kills > 0
    assert pictures(killed) == pictures(tmp_path / "whole")
    assert rows(killed) == rows(tmp_path / "whole")
    assert not list(killed.glob("**/*.tmp"))


@pytest.mark.slow
def test_sigterm_finishes_the_batch_and_asks_to_be_run_again(
    reward_torch, reward_folder, photo, tmp_path
):
    items = write_items(tmp_path, photo, 9)
    command = [sys.executable, "-m", "mre_jax", "sample", str(items), "--model"]
    options = [str(reward_folder), "--out", str(tmp_path / "out"), *SAMPLING, "--batch-size", "1"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *options], env=os.environ | {"XLA_FLAGS": ""}, stderr=log
        )
    while process.poll() is None and not list((tmp_path / "out").glob("images/*.png")):
        time.sleep(0.01)
    process.terminate()
    assert process.wait() == 75
    finished = {path.stem for path in (tmp_path / "out" / "rows").iterdir()}
    said = (tmp_path / "log").read_text()
    assert f"stopped by SIGTERM after {len(finished)} of 9; run it again" in said
    assert "image/s" not in said, "a bar in a log file"
    assert {path.stem for path in (tmp_path / "out" / "images").iterdir()} == finished


@pytest.mark.filterwarnings("default:.*taken from")
def test_edit_takes_a_weight_file_with_its_base(
    plain_torch, plain_folder, photo_file, tmp_path, capsys
):
    """A trainer's UNet; the rest is that of the model it began with, and so is the edit."""
    unet = plain_folder / "unet/diffusion_pytorch_model.safetensors"
    pictures = []
    for name, options in (("file", (unet, "--base", plain_folder)), ("folder", (plain_folder,))):
        out = tmp_path / f"{name}.png"
        assert run("edit", photo_file, "snow", "--model", *options, "-o", out, *SAMPLING) == 0
        pictures.append(out.read_bytes())
    assert pictures[0] == pictures[1]
    assert f"tokenizer taken from {plain_folder}" in capsys.readouterr().err
    assert run("edit", photo_file, "snow", "--model", unet, "-o", out, *SAMPLING) == 65
    error = capsys.readouterr().err
    assert f"{unet} lacks the VAE; " in error and "--base" in error and error.count("\n") == 1
