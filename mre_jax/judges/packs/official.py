"""Prompts of a benchmark's authors, read from the user's copy of their files.

the paper's released code   eval_following.py, eval_keep_detail.py, eval_quality.py (gpt_eval/)
GEdit-Bench                 vie_prompts.py (Step1X-Edit, GEdit-Bench/viescore/)
ImgEdit-Bench, basic        prompts.json (ImgEdit, Benchmark/Basic/)
ImgEdit-Bench, UGE          UGE_bench.py (ImgEdit, Benchmark/UGE/)

Texts are taken as they stand, and with them what the scripts set: the number of tokens where they
name one, no temperature, no schema. The scripts are read and never run. Answers are read strictly,
by the form that the prompt asks for; the authors' scripts are more lenient: GEdit's makes scores up
where an answer cannot be read, ImgEdit's averages those of the three numbers that it finds, and the
paper's takes no score without a decimal point.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.json_file import read_json
from mre_jax.judges.packs.pack import Answer, Prompt, PromptPack

_BOTH = ("original", "edited")
_INSTRUCTION = "{instruction}"
_UNSET = {"form": "text", "temperature": None}
_IMGEDIT_TOKENS = 1000
"""ImgEdit's scripts set no limit, and a request of ours has one: far above what they ask for."""


def read_official(path: str) -> PromptPack:
    """The prompts of one benchmark.

    Args:
        path: a file above, or a folder with one of them in it or below.

    Raises:
        ConfigError: if there is nothing of this name.
        DataError: if none of the files is there, or those of several benchmarks, or one is of
            another form.
    """
    root = Path(path)
    if not root.exists():
        raise ConfigError(f"official prompts {path}: no such file or folder")
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.name in _READERS)
    found = [file for file in files if file.name in _READERS]
    if not found:
        raise DataError(
            f"official prompts {path}: want {', '.join(_READERS)}, or a folder with one of them"
        )
    if len(found) > 1:
        raise DataError(
            f"official prompts {path}: {found[0]} and {found[1]} are both in it; name one of them"
        )
    return _READERS[found[0].name](found[0])


def _read_gedit(path: Path) -> PromptPack:
    texts = _constants(path)
    names = "_context_no_delimit", "_prompts_0shot_two_image_edit_rule"
    following = "\n".join(_text(texts, n, path) for n in (*names, "_prompts_0shot_tie_rule_SC"))
    quality = "\n".join(_text(texts, n, path) for n in (names[0], "_prompts_0shot_rule_PQ"))
    answer = Answer(("score",), False, 0, 10, text="reasoning", length=2)
    prompts = {
        "sc": Prompt("", _placed(following, "<instruction>", path), _BOTH, answer),
        "pq": Prompt("", quality, ("edited",), answer),
    }
    description = "GEdit-Bench's own prompts, VIEScore's, from the user's copy"
    return PromptPack("gedit-official", description, prompts, {}, {**_UNSET, "max_tokens": 1400})


def _read_imgedit(path: Path) -> PromptPack:
    texts = read_json(path)
    if not isinstance(texts, dict) or not texts:
        raise DataError(f"{path}: want an object of prompts by type of edit")
    types = {kind: _imgedit_prompt(_text(texts, kind, path), path) for kind in texts}
    description = "ImgEdit-Bench's own prompts by type of edit, from the user's copy"
    settings = {**_UNSET, "max_tokens": _IMGEDIT_TOKENS}
    return PromptPack("imgedit-official", description, {}, {"overall": types}, settings)


def _read_uge(path: Path) -> PromptPack:
    prompt = _imgedit_prompt(_text(_constants(path), "prompt", path), path)
    description = "the own prompt of ImgEdit-Bench's UGE part, from the user's copy"
    settings = {**_UNSET, "max_tokens": _IMGEDIT_TOKENS}
    return PromptPack("imgedit-uge-official", description, {"overall": prompt}, {}, settings)


def _imgedit_prompt(text: str, path: Path) -> Prompt:
    """Lines of names and numbers are asked for; of the UGE part without saying their names."""
    scores = tuple(re.findall(r"^(.+): A number from 1 to 5\.?\s*$", text, re.MULTILINE))
    reasoning = re.search(r"^(.+): A short explanation", text, re.MULTILINE)
    said = reasoning[1] if reasoning else None
    answer = Answer(scores, True, 1, 5, text=said, combine="mean", form="lines")
    return Prompt("", _placed(text, "<edit_prompt>", path), _BOTH, answer)


def _read_released(path: Path) -> PromptPack:
    prompts: dict[str, Prompt] = {}
    tokens = set()
    for perspective, name in _RELEASED.items():
        file = path.parent / name
        request = _request(_tree(file), file)
        tokens.add(request["max_tokens"])
        prompts[perspective] = _released_prompt(request["messages"], file)
    if len(tokens) > 1 or not all(isinstance(number, int) for number in tokens):
        raise DataError(f"{path.parent}: the three scripts want one max_tokens, got {tokens}")
    description = "the prompts of the paper's released code, from the user's copy"
    settings = {**_UNSET, "max_tokens": tokens.pop()}
    return PromptPack("released-code", description, prompts, {}, settings)


def _released_prompt(messages: Any, path: Path) -> Prompt:
    try:
        system, user = (message["content"] for message in messages)
        texts = [part["text"] for part in user if part["type"] == "text"]
        pictures = _BOTH[-sum(part["type"] == "image_url" for part in user) :]
        keys = re.search(r"keys '(\w+)' and '(\w+)'", texts[0])
        passed, score = keys.groups()  # type: ignore[union-attr]
    except (AttributeError, LookupError, TypeError, ValueError):
        raise DataError(f"{path}: the messages are not those of the released code") from None
    return Prompt(system, texts[0], pictures, Answer((score,), False, 0, 5, passed))


def _request(tree: ast.Module, path: Path) -> dict[str, Any]:
    """What the one call with `messages` is given, instructions put as in a pack."""
    for node in ast.walk(tree):
        given = {k.arg: k.value for k in node.keywords} if isinstance(node, ast.Call) else {}
        if {"messages", "max_tokens"} <= given.keys():
            return {name: _value(given[name], path) for name in ("messages", "max_tokens")}
    raise DataError(f"{path}: no request with messages and max_tokens in it")


def _value(node: ast.expr, path: Path) -> Any:
    """A literal; in a text {prompt} stands for the instruction, and all else for what is not."""
    match node:
        case ast.Constant(value):
            return value
        case ast.List(elements):
            return [_value(element, path) for element in elements]
        case ast.Dict(keys, values):
            return {
                _value(key, path): _value(value, path)
                for key, value in zip(keys, values, strict=True)
                if key is not None
            }
        case ast.JoinedStr(parts):
            return "".join(str(_value(part, path)) for part in parts)
        case ast.FormattedValue(ast.Name(name)):
            return _INSTRUCTION if name == "prompt" else f"<{name}>"
    raise DataError(f"{path}:{node.lineno}: want a literal, got {ast.unparse(node)!r:.40}")


def _constants(path: Path) -> dict[str, Any]:
    """The literals that a script names at its top level."""
    return dict(_assigned(_tree(path)))


def _assigned(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        match node:
            case ast.Assign([ast.Name(name)], ast.Constant(value)):
                yield name, value


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{path}: no Python that can be read ({error})") from None


def _text(texts: Mapping[str, Any], name: str, path: Path) -> str:
    if not isinstance(texts.get(name), str):
        raise DataError(f"{path}: no text {name!r} in it")
    return texts[name]


def _placed(text: str, mark: str, path: Path) -> str:
    """The text with the place of the instruction as a pack has it."""
    if mark not in text:
        raise DataError(f"{path}: {mark} is not in the prompt")
    return text.replace(mark, _INSTRUCTION)


_RELEASED = {
    "following": "eval_following.py",
    "preserving": "eval_keep_detail.py",
    "quality": "eval_quality.py",
}
_READERS: dict[str, Callable[[Path], PromptPack]] = {
    "vie_prompts.py": _read_gedit,
    "prompts.json": _read_imgedit,
    "UGE_bench.py": _read_uge,
    "eval_quality.py": _read_released,
}
