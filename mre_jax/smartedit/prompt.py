"""What the language model reads: a conversation as ids, with the place of its picture and reply.

    SYSTEM USER: REQUEST ASSISTANT: REPLY <img_0> ... <img_31></s>

The instruction stands in the request as "<im_start> <img_0> <im_end>INSTRUCTION", with the quotes;
this first <img_0> is the picture's place. It is taken out and the picture's patches stand there
instead, so that a row has the length of the text's window and the patches together.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

from mre_jax.errors import ConfigError, DataError
from mre_jax.smartedit.templates import IMAGE_PLACE, TEXT_PLACE, Pair, Templates
from mre_jax.smartedit.tokenizer import Tokenizer

IGNORED = -100
"""The label of what is not predicted."""

_HALVINGS = 4
_PICTURE = "<image>"


@dataclasses.dataclass(frozen=True)
class PromptSizes:
    """Lengths of all rows.

    Attributes:
        text_tokens: window of the text, the start token and the picture's place included; 256 for
            edits and captions, up to 1792 for LLaVA's conversations.
        patches: of the picture, 256; 0 where there is none.
    """

    text_tokens: int = 256
    patches: int = 256

    @property
    def length(self) -> int:
        """Tokens of a row."""
        return self.text_tokens + self.patches


class Prompts(NamedTuple):
    """A batch of conversations, padded on the right; a pytree of arrays.

    Attributes:
        input_ids: ids; those at the picture's patches are padding's.
        attention_mask: what is not padding.
        labels: the id itself where it is predicted (from the token before it), else -100.
        lengths: tokens without padding.
        image_start: the position of the picture's first patch; 0 where there is no picture.
        state_positions: the positions of the s image tokens of the reply; 0 where there are none.
        is_editing_task: whether those tokens are an edit's (or a caption's), whose loss counts.
        too_long: whether the text did not fit its window. An instruction or a caption is then left
            out whole, a conversation is cut.
    """

    input_ids: Int32[np.ndarray, "b t"]
    attention_mask: Bool[np.ndarray, "b t"]
    labels: Int32[np.ndarray, "b t"]
    lengths: Int32[np.ndarray, " b"]
    image_start: Int32[np.ndarray, " b"]
    state_positions: Int32[np.ndarray, "b s"]
    is_editing_task: Bool[np.ndarray, " b"]
    too_long: Bool[np.ndarray, " b"]


@dataclasses.dataclass
class _Row:
    """One conversation; `picture` is the index of the token before which the patches stand."""

    ids: list[int]
    predicted: list[bool]
    picture: int | None = None
    is_editing_task: bool = True
    too_long: bool = False


class PromptWriter:
    """Makes prompts from a tokenizer and templates.

    Args:
        tokenizer: the network's.
        templates: for edits or for captions.
        sizes: lengths of the rows.

    Raises:
        ConfigError: if a template alone does not fit the window.
    """

    def __init__(self, tokenizer: Tokenizer, templates: Templates, sizes: PromptSizes):
        self.tokenizer = tokenizer
        self.templates = templates
        self.sizes = sizes
        needed = 1 + max(_tokens(self._edit(pair, "")) for pair in templates.pairs)
        if needed > sizes.text_tokens:
            raise ConfigError(
                f"text_tokens {sizes.text_tokens} is too short for these templates; "
                f"make it at least {needed}"
            )

    def edits(
        self,
        instructions: Sequence[str],
        item_ids: Sequence[str],
        seeds: Sequence[int],
        *,
        reply: bool = True,
    ) -> Prompts:
        """The prompts of edits.

        Args:
            instructions: b of them; line breaks are taken out.
            item_ids: with its seed an item's id chooses its template, whatever its companions.
            seeds: one per item.
            reply: with the reply of the template (teacher-forced), or ending in "ASSISTANT:".

        Raises:
            DataError: for an instruction that holds the name of a token or is not Unicode.
        """
        rows = []
        for instruction, item, seed in zip(instructions, item_ids, seeds, strict=True):
            self.check("instruction", instruction)
            pair = self.templates.pair(seed, item)
            row = self._edit(pair, instruction)
            if not self._fits(row):
                row = self._edit(pair, "")
                row.too_long, row.is_editing_task = True, False
            rows.append(row if reply else _without_reply(row))
        return self._batch(rows)

    def captions(
        self, captions: Sequence[str], item_ids: Sequence[str], seeds: Sequence[int]
    ) -> tuple[Prompts, list[str]]:
        """The prompts of stage 1, which have no picture, and the captions as they were read.

        A caption that does not fit is halved up to four times.

        Args:
            captions: b of them.
            item_ids: as in `edits`.
            seeds: as in `edits`.

        Raises:
            DataError: for a caption that holds the name of a token or is not Unicode.
        """
        rows, read = [], []
        for caption, item, seed in zip(captions, item_ids, seeds, strict=True):
            self.check("caption", caption)
            pair = self.templates.pair(seed, item)
            row = self._caption(pair, caption)
            for _ in range(_HALVINGS):
                if self._fits(row):
                    break
                caption = caption[: len(caption) // 2]
                row = self._caption(pair, caption)
            if not self._fits(row):
                caption = ""
                row = self._caption(pair, caption)
                row.too_long, row.is_editing_task = True, False
            rows.append(row)
            read.append(caption)
        return self._batch(rows), read

    def conversations(self, conversations: Sequence[Sequence[Mapping[str, str]]]) -> Prompts:
        """The prompts of LLaVA's conversations about a picture; no edit comes of them.

        Args:
            conversations: lists of {"from": "human" or "gpt", "value": text}; a human's text names
                the picture as <image>.

        Raises:
            DataError: if speakers do not alternate, the picture is not named, or a text holds the
                name of a token.
        """
        return self._batch([self._conversation(turns) for turns in conversations])

    def _edit(self, pair: Pair, instruction: str) -> _Row:
        place = "<im_start> <img_0> <im_end>" if self.sizes.patches else ""
        row = self._filled(pair, f'"{place}{instruction}"', one_line=True)
        if place:
            row.picture = row.ids.index(self.tokenizer.image_ids[0])
            del row.ids[row.picture], row.predicted[row.picture]
        return row

    def _caption(self, pair: Pair, caption: str) -> _Row:
        return self._filled(pair, f'"{caption}"', one_line=False)

    def _filled(self, pair: Pair, text: str, one_line: bool) -> _Row:
        images = "".join(f" <img_{number}>" for number in range(len(self.tokenizer.image_ids)))
        request = f"{self.templates.system} USER: {pair.human.replace(TEXT_PLACE, text)} ASSISTANT:"
        reply = f" {pair.gpt.replace(IMAGE_PLACE, images)}</s>"
        if one_line:
            request = request.replace("\n", "")
        ids = self.tokenizer.encode(request + reply)
        before = len(self.tokenizer.encode(request))
        return _Row(ids, [index >= before for index in range(len(ids))])

    def _conversation(self, turns: Sequence[Mapping[str, str]]) -> _Row:
        start = f"{self.templates.system} "
        row = _Row([self.tokenizer.bos_id], [False], is_editing_task=False)
        for request, reply in _rounds(turns):
            self.check("turn", request.replace(_PICTURE, ""))
            self.check("turn", reply)
            self._add_round(row, f"{start}USER: ", request, reply)
            start = ""
        if row.picture is None:
            raise DataError(f"no human turn of a conversation names its picture, {_PICTURE}")
        row.too_long = _tokens(row) > self.sizes.text_tokens
        # The picture's place is one of the window's tokens, and is not among these.
        cut = self.sizes.text_tokens - 1
        if row.picture > cut:
            raise DataError(
                f"a conversation names its picture after {row.picture} tokens, beyond text_tokens "
                f"{self.sizes.text_tokens}"
            )
        row.ids, row.predicted = row.ids[:cut], row.predicted[:cut]
        return row

    def _add_round(self, row: _Row, start: str, request: str, reply: str) -> None:
        """Encodes one round; what stands before and after a picture is encoded by itself."""
        if _PICTURE in request:
            if row.picture is not None:
                raise DataError(f"two turns of a conversation name a picture, {_PICTURE}; have one")
            # The picture stands first in its turn, wherever the turn names it.
            request = f"\n{request.replace(_PICTURE, '').strip()}".rstrip()
            row.ids += self.tokenizer.encode(start, start=False)
            row.ids += [self.tokenizer.im_start_id, self.tokenizer.im_end_id]
            row.picture = len(row.ids) - 1
            start = ""
        asked = f"{start}{request} ASSISTANT:"
        row.predicted += [False] * (len(row.ids) - len(row.predicted))
        before = len(self.tokenizer.encode(asked, start=False))
        ids = self.tokenizer.encode(f"{asked} {reply}</s>", start=False)
        row.ids += ids
        row.predicted += [index >= before for index in range(len(ids))]

    def _fits(self, row: _Row) -> bool:
        """Whether one place of the window is left, as the official code tells a cut text."""
        return _tokens(row) < self.sizes.text_tokens

    def check(self, what: str, text: str) -> None:
        """Refuses a text that holds the name of a token; `what` is how the error calls it."""
        token = self.tokenizer.token_in(text)
        if token:
            raise DataError(f"{what} {text[:60]!r} holds {token}, the name of a token; take it out")

    def _batch(self, rows: Sequence[_Row]) -> Prompts:
        count, length = len(rows), self.sizes.length
        prompts = Prompts(
            input_ids=np.full((count, length), self.tokenizer.pad_id, np.int32),
            attention_mask=np.zeros((count, length), bool),
            labels=np.full((count, length), IGNORED, np.int32),
            lengths=np.zeros(count, np.int32),
            image_start=np.zeros(count, np.int32),
            state_positions=np.zeros((count, len(self.tokenizer.image_ids)), np.int32),
            is_editing_task=np.array([row.is_editing_task for row in rows], bool),
            too_long=np.array([row.too_long for row in rows], bool),
        )
        for index, row in enumerate(rows):
            self._write(prompts, index, row)
        return prompts

    def _write(self, prompts: Prompts, index: int, row: _Row) -> None:
        ids, predicted = np.array(row.ids, np.int32), np.array(row.predicted, bool)
        positions = np.arange(len(ids))
        is_image = (ids >= self.tokenizer.image_ids[0]) & predicted
        end = len(ids)
        if row.picture is not None:
            positions[row.picture :] += self.sizes.patches
            end += self.sizes.patches
            prompts.image_start[index] = row.picture
        prompts.input_ids[index, positions] = ids
        prompts.attention_mask[index, :end] = True
        prompts.labels[index, positions[predicted]] = ids[predicted]
        prompts.lengths[index] = end
        if is_image.any():
            prompts.state_positions[index] = positions[is_image]


def _tokens(row: _Row) -> int:
    """Tokens of a row's text, the picture's place included."""
    return len(row.ids) + (row.picture is not None)


def _without_reply(row: _Row) -> _Row:
    kept = row.predicted.index(True)
    return dataclasses.replace(row, ids=row.ids[:kept], predicted=row.predicted[:kept])


def _rounds(turns: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """Requests and their replies; what the assistant says before the first request is left out."""
    turns = turns[1:] if turns and turns[0].get("from") == "gpt" else turns
    speakers = [turn.get("from") for turn in turns]
    if not speakers or speakers != ["human", "gpt"] * (len(speakers) // 2):
        raise DataError(f"turns of a conversation are from {speakers}; let human and gpt alternate")
    values = [turn["value"] for turn in turns]
    return list(zip(values[::2], values[1::2], strict=True))
