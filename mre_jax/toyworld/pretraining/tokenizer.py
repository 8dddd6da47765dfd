"""A CLIP tokenizer in which every word of the toy world is one token."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD = re.compile(r"[a-z]+|[^a-z\s]")
_LAST = "</w>"


def tokenizer_files(texts: Iterable[str], tokens: int) -> dict[str, bytes]:
    """The files of a tokenizer folder, by path in a model folder.

    Args:
        texts: whose words become tokens; others are spelled in bytes.
        tokens: of the window.
    """
    merges = _merges(sorted({word for text in texts for word in _WORD.findall(text.lower())}))
    letters = _byte_letters()
    vocabulary = [*letters, *(letter + _LAST for letter in letters), *map("".join, merges)]
    numbers = {token: number for number, token in enumerate([*vocabulary, START, END])}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokens, "pad_token": END}
    rules = "".join(f"{first} {second}\n" for first, second in merges)
    return {
        "tokenizer/vocab.json": json.dumps(numbers, ensure_ascii=False).encode(),
        "tokenizer/merges.txt": f"#version: 0.2\n{rules}".encode(),
        "tokenizer/tokenizer_config.json": (json.dumps(config, indent=2) + "\n").encode(),
    }


def _byte_letters() -> list[str]:
    """The printable letter by which CLIP's vocabulary writes each byte (Radford et al. 2019)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    shifted = {byte: 256 + index for index, byte in enumerate(others)}
    return [chr(shifted.get(byte, byte)) for byte in range(256)]


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte pair encoding (Sennrich et al. 2016), until each word is whole."""
    splits = [[*word[:-1], word[-1] + _LAST] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for parts in splits for pair in itertools.pairwise(parts)):
        chosen = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(chosen)
        splits = [_merged(parts, chosen) for parts in splits]
    return merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined
