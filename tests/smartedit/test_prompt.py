import numpy as np
import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.smartedit.prompt import IGNORED, PromptSizes, PromptWriter
from mre_jax.smartedit.templates import Pair, Templates
from tests.smartedit.tiny_tokenizer import tiny_tokenizer

PAIRS = (
    Pair("Please change the picture [cap].", "Sure, here is the new picture [img]."),
    Pair("Edit this image, [cap]!", "Of course [img]."),
)
TEMPLATES = Templates("A chat with an assistant that says <img>.", PAIRS)
SIZES = PromptSizes(text_tokens=128, patches=9)
IDS = ["a", "b", "c"]
INSTRUCTIONS = ["Make the car red", "paint the house blue", "It was taken\nin 1984"]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def writer(tokenizer):
    return PromptWriter(tokenizer, TEMPLATES, SIZES)


def _conversation(pair, instruction):
    images = " <img_0> <img_1> <img_2> <img_3>"
    text = f'"<im_start> <img_0> <im_end>{instruction}"'
    system, reply = TEMPLATES.system, pair.gpt.replace(" [img].", images)
    return f"{system} USER: {pair.human.replace('[cap]', text)} ASSISTANT: {reply}</s>".replace(
        "\n", ""
    )


def _official(tokenizer, conversation, window, patches):
    """The official code's steps, for one row.

    Ids, attention, labels and the image tokens' mask are made for the window; the picture then
    replaces the first <img_0>, whose column is appended as padding.
    """
    ids = tokenizer.encode(conversation)[:window]
    ids = np.array(ids + [tokenizer.pad_id] * (window - len(ids)))
    before, _ = conversation.split(" ASSISTANT: ")
    labels = ids.copy()
    labels[:1] = IGNORED
    # The two that are left out are the start, which is counted already, and the last space.
    labels[1 : 1 + len(tokenizer.encode(f"{before} ASSISTANT: ")) - 2] = IGNORED
    labels[int((ids != tokenizer.pad_id).sum()) :] = IGNORED
    seen, image = ids != tokenizer.pad_id, ids >= tokenizer.image_ids[0]
    place = int(np.flatnonzero(ids == tokenizer.image_ids[0])[0])

    def spliced(row, fill, end):
        return np.concatenate([row[:place], [fill] * patches, row[place + 1 :], [end]])

    return (
        spliced(ids, tokenizer.pad_id, tokenizer.pad_id),
        spliced(seen, True, False),
        spliced(labels, IGNORED, IGNORED),
        spliced(image, False, False),
        place,
    )


def test_a_row_is_the_official_codes(tokenizer, writer):
    prompts = writer.edits(INSTRUCTIONS, IDS, [3, 3, 3])
    for row, (instruction, item) in enumerate(zip(INSTRUCTIONS, IDS, strict=True)):
        text = _conversation(TEMPLATES.pair(3, item), instruction)
        ids, seen, labels, image, place = _official(tokenizer, text, 128, 9)
        assert np.array_equal(prompts.input_ids[row], ids)
        assert np.array_equal(prompts.attention_mask[row], seen)
        assert np.array_equal(prompts.labels[row], labels)
        assert np.array_equal(prompts.state_positions[row], np.flatnonzero(image))
        assert prompts.image_start[row] == place
        assert prompts.lengths[row] == seen.sum()
    assert prompts.is_editing_task.all() and not prompts.too_long.any()


def test_the_reply_its_image_tokens_and_the_end_are_predicted(tokenizer, writer):
    prompts = writer.edits(INSTRUCTIONS[:1], ["a"], [0])
    predicted = prompts.labels[0][prompts.labels[0] != IGNORED].tolist()
    reply = TEMPLATES.pair(0, "a").gpt.removesuffix(" [img].")
    assert predicted == [
        *tokenizer.encode(reply, start=False),
        *tokenizer.image_ids,
        tokenizer.eos_id,
    ]
    positions = prompts.state_positions[0]
    assert prompts.input_ids[0, positions].tolist() == list(tokenizer.image_ids)
    assert prompts.input_ids[0, prompts.lengths[0] - 1] == tokenizer.eos_id
    start = prompts.image_start[0]
    assert prompts.input_ids[0, start - 1] == tokenizer.im_start_id
    assert prompts.input_ids[0, start + 9] == tokenizer.im_end_id
    assert prompts.attention_mask[0, start : start + 9].all()
    assert (prompts.labels[0, start : start + 9] == IGNORED).all()


def test_an_open_prompt_is_the_same_up_to_its_reply(tokenizer, writer):
    given = writer.edits(INSTRUCTIONS, IDS, [0, 1, 2])
    asked = writer.edits(INSTRUCTIONS, IDS, [0, 1, 2], reply=False)
    colon = tokenizer.encode("ASSISTANT:", start=False)[-1]
    for row, length in enumerate(asked.lengths):
        assert given.labels[row, length - 1] == IGNORED != given.labels[row, length]
        assert np.array_equal(asked.input_ids[row, :length], given.input_ids[row, :length])
        assert asked.input_ids[row, length - 1] == colon
        assert (asked.input_ids[row, length:] == tokenizer.pad_id).all()
        assert asked.attention_mask[row].sum() == length
    assert (asked.labels == IGNORED).all() and not asked.state_positions.any()
    assert np.array_equal(asked.image_start, given.image_start)


def test_a_row_does_not_depend_on_its_companions(writer):
    together = writer.edits(INSTRUCTIONS, IDS, [0, 1, 2])
    for row in range(3):
        alone = writer.edits([INSTRUCTIONS[row]], [IDS[row]], [row])
        assert all(np.array_equal(a[0], b[row]) for a, b in zip(alone, together, strict=True))


def test_an_instruction_that_does_not_fit_is_left_out_whole(tokenizer, writer):
    """As in training by the official code, which also calls a window that is just full too long."""
    pair = TEMPLATES.pair(0, "a")
    spare = 128 - len(tokenizer.encode(_conversation(pair, "x")))
    fitting, long = "x" * spare, "x" * (spare + 1)
    assert len(tokenizer.encode(_conversation(pair, long))) == 128
    prompts = writer.edits([fitting, long, ""], ["a"] * 3, [0] * 3)
    assert prompts.too_long.tolist() == [False, True, False]
    assert prompts.is_editing_task.tolist() == [True, False, True]
    assert np.array_equal(prompts.input_ids[1], prompts.input_ids[2])
    assert prompts.lengths[0] == 128 - 1 - 1 + 9


def test_a_window_too_short_for_the_templates_is_refused(tokenizer):
    needed = max(len(tokenizer.encode(_conversation(pair, ""))) for pair in PAIRS) + 1
    PromptWriter(tokenizer, TEMPLATES, PromptSizes(needed, 9)).edits(
        [""] * 9, list("abcdefghi"), [0] * 9
    )
    with pytest.raises(ConfigError, match=f"text_tokens {needed - 1}.*at least {needed}"):
        PromptWriter(tokenizer, TEMPLATES, PromptSizes(needed - 1, 9))


@pytest.mark.parametrize("token", ["<img_3>", "</s>", "<im_end>", "<img>"])
def test_an_instruction_that_holds_a_token_is_refused(writer, token):
    with pytest.raises(DataError, match=f"instruction 'a {token} b' holds {token}"):
        writer.edits([f"a {token} b"], ["a"], [0])


def test_the_released_sizes_are_512():
    assert PromptSizes().length == 512


def test_captions_have_no_picture(tokenizer):
    templates = Templates(TEMPLATES.system, (Pair("Draw [cap].", "[cap] is here [img]."),))
    writer = PromptWriter(tokenizer, templates, PromptSizes(128, 0))
    prompts, read = writer.captions(["two cats", "3 people\nin the rain"], ["a", "b"], [0, 0])
    assert read == ["two cats", "3 people\nin the rain"]
    for row, caption in enumerate(read):
        request = f'{TEMPLATES.system} USER: Draw "{caption}". ASSISTANT:'
        text = f"{request} [cap] is here <img_0> <img_1> <img_2> <img_3></s>"
        ids, before = tokenizer.encode(text), len(tokenizer.encode(request))
        assert prompts.input_ids[row, : len(ids)].tolist() == ids
        assert prompts.labels[row, before : len(ids)].tolist() == ids[before:]
        assert (prompts.labels[row, :before] == IGNORED).all()
        assert prompts.lengths[row] == len(ids)
        positions = prompts.state_positions[row]
        assert prompts.input_ids[row, positions].tolist() == list(tokenizer.image_ids)
    assert prompts.input_ids.shape == (2, 128)


def test_a_long_caption_is_halved_up_to_four_times(tokenizer):
    templates = Templates("s", (Pair("Draw [cap].", "ok [img]."),))
    writer = PromptWriter(tokenizer, templates, PromptSizes(128, 0))
    room = 127 - len(tokenizer.encode('s USER: Draw "". ASSISTANT: ok</s>')) - 4
    captions = ["x" * room, "x" * (2 * room), "x" * (16 * room), "x" * (16 * room + 16)]
    prompts, read = writer.captions(captions, ["a"] * 4, [0] * 4)
    assert [len(caption) for caption in read] == [room, room, room, 0]
    assert prompts.too_long.tolist() == [False, False, False, True]
    assert prompts.is_editing_task.tolist() == [True, True, True, False]


TURNS = [
    {"from": "human", "value": "What is in the picture?\n<image>"},
    {"from": "gpt", "value": "A dog and two cats."},
    {"from": "human", "value": "in the rain?"},
    {"from": "gpt", "value": "3 people"},
]


def test_a_conversation_has_its_picture_first_and_its_replies_predicted(tokenizer, writer):
    """What stands before and after <image> is encoded by itself, spaces and line breaks kept."""
    prompts = writer.conversations([TURNS])
    segments = [
        (f"{TEMPLATES.system} USER: ", None),
        ("<im_start>", None),
        ("<im_end>", None),
        ("\nWhat is in the picture? ASSISTANT:", " A dog and two cats.</s>"),
        ("USER: in the rain? ASSISTANT:", " 3 people</s>"),
    ]
    ids, labels = [tokenizer.bos_id], [IGNORED]
    for asked, reply in segments:
        whole = tokenizer.encode(asked + (reply or ""), start=False)
        before = len(tokenizer.encode(asked, start=False))
        ids += whole
        labels += [IGNORED] * before + whole[before:]
        if asked == "<im_start>":
            start = len(ids)
            ids += [tokenizer.pad_id] * 9
            labels += [IGNORED] * 9
    assert prompts.image_start.tolist() == [start]
    assert prompts.input_ids[0, : len(ids)].tolist() == ids
    assert prompts.labels[0, : len(ids)].tolist() == labels
    assert prompts.lengths.tolist() == [len(ids)]
    assert not prompts.is_editing_task.any() and not prompts.state_positions.any()
    assert writer.conversations([[TURNS[3], *TURNS]]).lengths.tolist() == [len(ids)]


def test_a_long_conversation_is_cut(writer):
    turns = [TURNS[0], {"from": "gpt", "value": "a dog " * 100}]
    prompts = writer.conversations([TURNS, turns])
    assert prompts.too_long.tolist() == [False, True]
    assert prompts.lengths[1] == 128 - 1 + 9
    assert prompts.labels[1, prompts.lengths[1] - 1] != IGNORED


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], r"turns of a conversation are from \[\]"),
        (TURNS[:3], "let human and gpt alternate"),
        (TURNS[2:], "no human turn of a conversation names its picture, <image>"),
        (TURNS[:2] * 2, "two turns of a conversation name a picture"),
        ([TURNS[0], {"from": "gpt", "value": "a</s>b"}], "turn 'a</s>b' holds </s>"),
    ],
)
def test_conversations_of_another_form_are_refused(writer, turns, message):
    with pytest.raises(DataError, match=message):
        writer.conversations([turns])
