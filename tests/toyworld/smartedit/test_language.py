"""What the toy SmartEdit's language model is taught: what a batch shows, says and asks for."""

import numpy as np
import pytest
from etils import epath
from PIL import Image

from mre_jax.io.json_file import read_json
from mre_jax.smartedit.prompt import IGNORED, PromptSizes, PromptWriter
from mre_jax.smartedit.templates import Templates
from mre_jax.toyworld.dataset import Settings, write_dataset
from mre_jax.toyworld.smartedit.language import draw_talk
from mre_jax.toyworld.smartedit.pretrain import TEMPLATES

SIZE, PATCHES = 24, 16


@pytest.fixture(scope="module")
def writer(tokenizer):
    return PromptWriter(tokenizer, Templates.read(TEMPLATES), PromptSizes(80, PATCHES))


def said(writer, labels):
    """The text that is to be predicted."""
    return writer.tokenizer.decode([label for label in labels.tolist() if label != IGNORED])


def test_the_reply_and_nothing_else_is_predicted(writer):
    talk = draw_talk(writer, 1, range(4), SIZE)
    for row, labels in enumerate(talk.prompts.labels):
        predicted = np.flatnonzero(labels != IGNORED)
        end = talk.prompts.lengths[row]
        assert predicted.tolist() == list(range(predicted[0], end))
        assert np.array_equal(labels[predicted], talk.prompts.input_ids[row, predicted])
        start = talk.prompts.image_start[row]
        assert start > 0 and start + PATCHES <= predicted[0]
        before = talk.prompts.input_ids[row, : predicted[0]].tolist()
        assert writer.tokenizer.decode(before).endswith("ASSISTANT:")


def test_pictures_are_described_and_requests_repeated_by_turns(writer, tmp_path):
    """As the set of the same seed has them."""
    count = 6
    world = Settings(count, seed=3, size=SIZE, benchmark=1, image_format="png", clean_share=1.0)
    write_dataset(tmp_path, world, workers=1)
    talk = draw_talk(writer, 3, range(count), SIZE)
    for row in range(count):
        folder = tmp_path / "triplets" / f"{row:07d}"
        prompt = read_json(epath.Path(folder / "prompt.json"))
        expected = prompt["edit"] if row % 2 else prompt["input"]
        assert said(writer, talk.prompts.labels[row]) == f"{expected} </s>"
        (file,) = folder.glob("*_0.png")
        assert np.array_equal(talk.pixels[row], np.asarray(Image.open(file).convert("RGB")))


def test_a_conversation_depends_on_its_index_alone(writer):
    whole, part = (draw_talk(writer, 1, range(*span), SIZE) for span in ((0, 6), (3, 6)))
    for one, other in zip(
        (*whole.prompts, whole.pixels), (*part.prompts, part.pixels), strict=True
    ):
        assert np.array_equal(one[3:], other)
