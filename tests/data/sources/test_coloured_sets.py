"""Segmentation as edits: what is asked for is coloured, and nothing else changes."""

import collections
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from mre_jax import cli
from mre_jax.data.sources import open_source
from mre_jax.data.sources.colouring import UNCHANGED
from mre_jax.errors import ConfigError, DataError
from tests.data.pictures import picture
from tests.data.read import read_triplets

SIZE = WIDTH, HEIGHT = 20, 12
GREY = picture("#406080", SIZE)
BOX = [2, 3, 10, 3, 10, 9, 2, 9]
COLOURS = {
    **{"red": (255, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)},
    **{"orange": (255, 128, 0), "purple": (128, 0, 192), "cyan": (0, 255, 255)},
    "white": (255, 255, 255),
}


def box(left=2, top=3, right=10, bottom=9, size=SIZE):
    mask = np.zeros(size[::-1], bool)
    mask[top:bottom, left:right] = True
    return mask


def ref(number, **changes):
    sentences = [{"sent": "left box", "raw": "Left box"}, {"sent": "the grey one"}]
    made = {"ref_id": number, "image_id": 7, "ann_id": 70, "split": "train"}
    return made | {"sentences": sentences} | changes


@pytest.fixture
def refcoco(tmp_path):
    """A folder of refs in a pickle of protocol 2, as the set's."""
    folder = tmp_path / "refcoco"
    (folder / "images" / "train2014").mkdir(parents=True)
    (folder / "images" / "train2014" / "photo.png").write_bytes(GREY)
    runs = {"size": [HEIGHT, WIDTH], "counts": [3, 2, WIDTH * HEIGHT - 5]}
    outlines = {70: [BOX], 71: runs, 72: [[12, 1, 18, 1, 18, 4, 12, 4]]}
    write_instances(folder, outlines)
    write_refs(folder, [ref(1), ref(2, ann_id=71), ref(3, split="val")])
    return folder


def write_instances(folder, outlines):
    made = [{"id": number, "segmentation": outline} for number, outline in outlines.items()]
    images = [
        {"id": 7, "file_name": "photo.png", "width": WIDTH, "height": HEIGHT},
        {"id": 9, "file_name": "photo.png", "width": 640, "height": 480},
    ]
    (folder / "instances.json").write_text(json.dumps({"images": images, "annotations": made}))


def write_refs(folder, refs):
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))


@pytest.fixture
def stuff(tmp_path):
    """Photos of which the left half is sky, and of the right one a part is grass."""
    root = tmp_path / "stuff"
    for folder in ("images/train2017", "annotations/train2017"):
        (root / folder).mkdir(parents=True)
    (root / "labels.txt").write_text("0: unlabeled\n1: sky\n2: Grass\n5: wall-brick\n")
    labels = np.full((HEIGHT, WIDTH), 255, np.uint8)
    labels[:, :10], labels[6:, 10:] = 0, 1
    for name in ("000a", "000b", "000c"):
        write_stuff(root, name, labels)
    return root


def write_stuff(root, name, labels):
    (root / "images" / "train2017" / f"{name}.jpg").write_bytes(picture("#406080", SIZE, "JPEG"))
    Image.fromarray(labels).save(root / "annotations" / "train2017" / f"{name}.png")


@pytest.fixture
def seg(tmp_path):
    folder = tmp_path / "seg"
    folder.mkdir()
    write_seg(folder, "a")
    return folder


def write_seg(folder, name, **changes):
    points = list(zip(BOX[::2], BOX[1::2], strict=True))
    made = {"text": ["what is a box?"], "is_sentence": True, "Name": "Crate"}
    shapes = [{"label": "target", "points": points}]
    (folder / f"{name}.jpg").write_bytes(GREY)
    (folder / f"{name}.json").write_text(json.dumps(made | {"shapes": shapes} | changes))


def changed(triplet):
    """The mask of what is another colour, and that colour if it is of the eight."""
    before, after = (np.asarray(image).astype(int) for image in triplet.images())
    mask = (before != after).any(-1)
    for name, rgb in COLOURS.items():
        if (after[mask] == (before[mask] + rgb) // 2).all():
            return mask, name
    raise AssertionError("half of no known colour")


def test_what_a_phrase_refers_to_is_coloured(refcoco):
    first, second = read_triplets(open_source("refcoco", refcoco), validate=True)
    assert (first.id, second.id, first.source) == ("1", "2", "refcoco")
    assert first.original == GREY
    mask, colour = changed(first)
    np.testing.assert_array_equal(mask, box())
    assert colour in first.instruction
    assert any(phrase in first.instruction for phrase in ("left box", "the grey one"))
    np.testing.assert_array_equal(changed(second)[0], box(0, 3, 1, 5))
    assert [t.id for t in read_triplets(open_source("refcoco", refcoco, split="val"))] == ["3"]
    assert len(open_source("refcoco", refcoco, split="all")) == 3


def test_a_phrase_of_several_objects_and_of_none(refcoco):
    refs = [ref(1, ann_id=[70, 72]), ref(2, ann_id=[-1])]
    (refcoco / "refs(unc).p").unlink()
    (refcoco / "grefs(unc).json").write_text(json.dumps(refs))
    several, none = read_triplets(open_source("refcoco", refcoco), validate=True)
    assert several.source == "grefcoco"
    np.testing.assert_array_equal(changed(several)[0], box() | box(12, 1, 18, 4))
    assert none.edited == none.original and none.instruction != UNCHANGED


def test_draws_are_of_id_and_seed_alone(refcoco):
    def texts(**options):
        found = read_triplets(open_source("refcoco", refcoco, split="all", **options))
        return {triplet.id: (triplet.instruction, triplet.edited) for triplet in found}

    assert texts() == texts()
    assert texts() != texts(seed=1)
    write_refs(refcoco, [ref(3), ref(1)])
    assert texts()["3"][0] == next(
        t.instruction for t in read_triplets(open_source("refcoco", refcoco)) if t.id == "3"
    )
    source = open_source("refcoco", refcoco, split="all", variants=4)
    found = list(read_triplets(source))
    assert [t.id for t in found] == [f"{n}_{v}" for n in (3, 1) for v in range(4)]
    assert [t.group for t in found] == ["3"] * 4 + ["1"] * 4
    assert source.keys().names == [t.id for t in found]
    # As workers get it.
    assert list(pickle.loads(pickle.dumps(source)).read(range(len(source)))) == found  # noqa: S301
    assert len({t.instruction for t in found}) > 4


def test_words_and_colours_of_a_file(refcoco, tmp_path):
    (tmp_path / "t.txt").write_text("# mine\nmake {object} look {color}\n\n")
    (tmp_path / "c.txt").write_text("Pink # ffccdd 255,200,220\n")
    options = {"templates": str(tmp_path / "t.txt"), "colors": str(tmp_path / "c.txt")}
    (first, _) = read_triplets(open_source("refcoco", refcoco, **options))
    assert first.instruction in ("make left box look pink", "make the grey one look pink")
    pixel = first.edited_image().getpixel((5, 5))
    assert pixel == ((0x40 + 255) // 2, (0x60 + 200) // 2, (0x80 + 220) // 2)
    for name, text, message in (
        ("t.txt", "paint {object}", r"t\.txt:1: want {object} and {color} in 'paint {object}'"),
        ("t.txt", "# none", r"t\.txt: no lines in it"),
        ("c.txt", "pink 300,0,0", r"c\.txt:1: want a name and R,G,B in 'pink 300,0,0'"),
    ):
        (tmp_path / "t.txt").write_text("{object} {color}")
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=message):
            open_source("refcoco", refcoco, **options)
    with pytest.raises(DataError, match=r"gone\.txt: no such file"):
        open_source("refcoco", refcoco, templates=str(tmp_path / "gone.txt"))
    with pytest.raises(ConfigError, match="variants=0: want at least 1"):
        open_source("refcoco", refcoco, variants=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 9}, "its outlines are for 640x480 pixels, and the picture is 20x12; take"),
        ({"image_id": 8}, "no image 8 among the instances"),
        ({"ann_id": 99}, "no annotation 99 among the instances"),
        ({"ann_id": 73}, "annotation 73: its mask has no pixel"),
        ({"ann_id": 74}, r"annotation 74: its run lengths are for .*\[9, 9\].* picture is 20x12"),
        ({"sentences": [{"tokens": []}]}, "a sentence without a text 'sent'"),
    ],
)
def test_a_bad_ref_is_named_and_the_others_are_read(refcoco, change, message):
    outside = [[100, 100, 120, 100, 120, 120]]
    write_instances(refcoco, {70: [BOX], 73: outside, 74: {"size": [9, 9], "counts": [81]}})
    write_refs(refcoco, [ref(1, **change), ref(2)])
    bad, good = open_source("refcoco", refcoco).read([0, 1])
    assert good.id == "2"
    with pytest.raises(DataError, match=rf"refs\(unc\)\.p: ref 1.*{message}"):
        raise bad


class Evil:
    def __reduce__(self):
        return eval, ("1/0",)


def test_files_of_refcoco_that_are_none(refcoco, tmp_path):
    with pytest.raises(DataError, match="no refs of split 'test'; there are train, val"):
        open_source("refcoco", refcoco, split="test")
    write_refs(refcoco, Evil())
    with pytest.raises(
        DataError, match=r"asks to call .*eval; nothing was executed\. Take the refs"
    ):
        open_source("refcoco", refcoco)
    write_refs(refcoco, [ref(1), {"ref_id": 3}])
    with pytest.raises(DataError, match="entry 1 is no ref: want numbers ref_id"):
        open_source("refcoco", refcoco)
    write_refs(refcoco, {})
    with pytest.raises(DataError, match="it holds no list of refs"):
        open_source("refcoco", refcoco)
    write_refs(refcoco, [ref(1)])
    (refcoco / "instances.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"instances\.json: want COCO's instances"):
        open_source("refcoco", refcoco)
    (refcoco / "refs(google).p").touch()
    with pytest.raises(DataError, match=r"refs\(google\)\.p, refs\(unc\)\.p; name one by --option"):
        open_source("refcoco", refcoco)
    with pytest.raises(DataError, match=r"gone\.p: no such file"):
        open_source("refcoco", refcoco, refs="gone.p")
    with pytest.raises(DataError, match="of files of refs it has none"):
        open_source("refcoco", tmp_path)
    with pytest.raises(DataError, match="no such folder; name it by --option images=DIR"):
        open_source("refcoco", refcoco, refs="refs(unc).p", images=str(tmp_path / "gone"))


def test_a_class_of_the_picture_is_coloured_in_a_square(stuff):
    options = {"absent": 0, "size": 0, "variants": 8}
    found = list(read_triplets(open_source("coco_stuff", stuff, **options), validate=True))
    assert {t.group for t in found} == {"000a", "000b", "000c"}
    wanted = collections.Counter()
    for triplet in found:
        assert triplet.original_image().size == (HEIGHT, HEIGHT)
        mask, colour = changed(triplet)
        assert colour in triplet.instruction
        if "sky" in triplet.instruction:
            # Whole columns up to the tenth of the photo.
            assert mask.all(0).sum() == mask.any(0).sum() >= 2
            wanted["sky"] += 1
        else:
            assert "grass" in triplet.instruction and not mask[:6].any() and mask[6:].any()
            wanted["grass"] += 1
    assert min(wanted["sky"], wanted["grass"]) > 2


def test_the_square_is_brought_to_256_pixels(stuff):
    triplet = next(read_triplets(open_source("coco_stuff", stuff, absent=0)))
    assert triplet.original_image().size == triplet.edited_image().size == (256, 256)
    assert changed(triplet)[0].any()


def test_a_fifth_asks_for_what_is_not_there(stuff):
    found = list(read_triplets(open_source("coco_stuff", stuff, variants=100, size=0)))
    absent = [triplet for triplet in found if triplet.edited == triplet.original]
    assert 0.12 < len(absent) / len(found) < 0.28
    # The square may have no grass.
    assert all("wall-brick" in t.instruction or "grass" in t.instruction for t in absent)
    (all_absent, *_) = read_triplets(open_source("coco_stuff", stuff, absent=100))
    assert all_absent.edited == all_absent.original


def test_a_photo_without_a_class_stays_as_it_is(stuff):
    write_stuff(stuff, "000a", np.full((HEIGHT, WIDTH), 255, np.uint8))
    triplet = next(read_triplets(open_source("coco_stuff", stuff)))
    assert triplet.instruction == UNCHANGED and triplet.edited == triplet.original


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((9, 9), np.uint8), "its map is 9x9, the picture 20x12; take photos and maps"),
        (np.full((HEIGHT, WIDTH), 3, np.uint8), "the class 3, which the names lack"),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), r"000a\.png: RGB pixels, where 8-bit classes"),
    ],
)
def test_a_bad_map_is_named_and_the_others_are_read(stuff, labels, message):
    write_stuff(stuff, "000a", labels)
    bad, good = open_source("coco_stuff", stuff).read([0, 1])
    assert good.id == "000b"
    with pytest.raises(DataError, match=rf"000a: .*{message}"):
        raise bad


def test_files_of_coco_stuff_that_are_none(stuff, tmp_path):
    with pytest.raises(
        DataError, match=r"nor .*val2017: no such folder; name it by --option images"
    ):
        open_source("coco_stuff", stuff, split="val2017")
    with pytest.raises(ConfigError, match="absent=101"):
        open_source("coco_stuff", stuff, absent=101)
    (stuff / "labels.txt").write_text("1: sky\ngrass\n")
    with pytest.raises(DataError, match=r"labels\.txt:2: want 'NUMBER: name', got 'grass'"):
        open_source("coco_stuff", stuff)
    (stuff / "labels.txt").unlink()
    with pytest.raises(
        DataError, match=r"labels\.txt: no such file; name it by --option names=FILE"
    ):
        open_source("coco_stuff", stuff)


def test_a_question_and_its_answer_by_name(seg):
    write_seg(seg, "b", Name="", is_sentence=False, text=["the box"])
    write_seg(seg, "c", Name=None)
    first, second, third = read_triplets(open_source("reason_seg", seg), validate=True)
    assert first.instruction.startswith("what is a box? ") and "crate" in first.instruction
    assert "the box" in second.instruction and "?" not in second.instruction
    assert "what answers this" in third.instruction
    assert first.original == GREY
    for triplet in (first, second, third):
        np.testing.assert_array_equal(changed(triplet)[0], box())


def test_what_is_to_be_ignored_is_not_coloured(seg):
    def shape(label, left, top, right, bottom):
        points = [[left, top], [right, top], [right, bottom], [left, bottom]]
        return {"label": label, "points": points}

    shapes = [
        *(shape("ignore", 4, 4, 6, 6), shape("target", 2, 3, 10, 9)),
        *(shape("flag", 0, 0, 1, 1), shape("target", 5, 5, 6, 6)),
    ]
    write_seg(seg, "a", shapes=shapes)
    wanted = box() & ~box(4, 4, 6, 6) | box(5, 5, 6, 6)
    (triplet,) = read_triplets(open_source("reason_seg", seg))
    np.testing.assert_array_equal(changed(triplet)[0], wanted)


def test_a_file_in_windows_characters(seg):
    text = (seg / "a.json").read_text().replace("what is a box?", "what\x92s a box?")
    (seg / "a.json").write_bytes(text.encode("latin1"))
    (triplet,) = read_triplets(open_source("reason_seg", seg))
    assert triplet.instruction.startswith("what\u2019s a box? ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": []}, r"'text' is \[\]; want a list of texts"),
        ({"shapes": [{"label": "target"}]}, "'shapes' is no list of label and points"),
        ({"imageWidth": 9, "imageHeight": 9}, "its outlines are for 9x9 pixels, and the picture"),
        ({"shapes": []}, "no shape shows a target inside of 20x12 pixels"),
        ({"shapes": [{"label": "target", "points": [[1, 2]]}]}, "a polygon wants at least three"),
    ],
)
def test_a_bad_question_is_named_and_the_others_are_read(seg, change, message):
    write_seg(seg, "b")
    write_seg(seg, "a", **change)
    bad, good = open_source("reason_seg", seg).read([0, 1])
    assert good.id == "b"
    with pytest.raises(DataError, match=rf"a\.json: {message}"):
        raise bad


def test_folders_of_reason_seg(seg, tmp_path):
    assert len(open_source("reason_seg", tmp_path, split="seg")) == 1
    with pytest.raises(DataError, match="choose a folder of it by --option split=NAME: seg"):
        open_source("reason_seg", tmp_path)
    with pytest.raises(DataError, match="gone: no such folder"):
        open_source("reason_seg", tmp_path / "gone")
    (seg / "a.jpg").unlink()
    assert "no picture" in str(next(open_source("reason_seg", seg).read([0])))


def test_prepared_they_are_sets_like_any_other(refcoco, tmp_path, capsys):
    pytest.importorskip("tensorflow_datasets")
    from mre_jax.data.records.record_source import RecordSource

    out = tmp_path / "out"
    argv = ["prepare", "refcoco", str(refcoco), "--out", str(out), "--option", "variants=3"]
    assert cli.main([*argv, "--option", "seed=4"]) == 0
    records = RecordSource(out)
    source = open_source("refcoco", refcoco, variants=3, seed=4)
    assert [records[n] for n in range(len(records))] == list(read_triplets(source))
    assert records[0].source == "refcoco"
    (refcoco / "images" / "train2014" / "photo.png").write_bytes(picture("red", (9, 9)))
    assert cli.main([*argv, "--out", f"{out}2"]) != 0
    errors = capsys.readouterr().err
    assert "ref 2: its outlines are for 20x12 pixels, and the picture is 9x9" in errors
    assert "6 of 6 examples are bad" in errors


def test_their_shares_of_a_mix_are_the_weights_of_prepared_sets(refcoco, stuff, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    from mre_jax.data.batches.augment import Augmentation
    from mre_jax.data.batches.loader import Loader
    from mre_jax.data.records.record_source import RecordSource

    for layout, path in (("refcoco", refcoco), ("coco_stuff", stuff)):
        argv = ["prepare", layout, str(path), "--out", f"{tmp_path}/shards/{layout}"]
        assert cli.main([*argv, "--option", "variants=2"]) == 0
    sources = [RecordSource(f"{tmp_path}/shards/{layout}") for layout in ("refcoco", "coco_stuff")]
    loader = Loader(sources, 4, seed=1, augmentation=Augmentation(8), weights=(1, 3))
    names, read = collections.Counter(), collections.Counter()
    for step in range(12):
        for source, record in loader.find(loader.batch(step).positions):
            names[source[record].source] += 1
            read[source[record].group] += 1
    assert names == {"refcoco": 12, "coco_stuff": 36}
    # Each epoch of a set reads one variant of each example.
    assert read == {"1": 6, "2": 6, "000a": 12, "000b": 12, "000c": 12}
