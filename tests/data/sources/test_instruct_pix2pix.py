"""The folders of InstructPix2Pix and RewardEdit."""

import json

import pytest

from mre_jax.data.sources import open_source
from mre_jax.data.sources.instruct_pix2pix import InstructPix2PixFolder
from mre_jax.data.sources.source import strict
from mre_jax.errors import ConfigError, DataError
from tests.data.pictures import AFTER, picture
from tests.data.read import read_triplets


def write_example(root, name, seeds=("17",), suffix="jpg", **prompt):
    folder = root / name
    folder.mkdir(parents=True)
    prompt = {"edit": f"edit {name}", "input": f"before {name}", "output": "after"} | prompt
    (folder / "prompt.json").write_text(json.dumps(prompt))
    for seed in seeds:
        (folder / f"{seed}_0.{suffix}").write_bytes(picture(size=(int(seed) % 9 + 8, 8)))
        (folder / f"{seed}_1.{suffix}").write_bytes(AFTER)
    (folder / "metadata.jsonl").write_text("{}\n")


def write_set(root, seeds_of, **options):
    for name, seeds in seeds_of.items():
        write_example(root, name, seeds, **options)
    index = [[name, list(seeds)] for name, seeds in seeds_of.items()]
    (root / "seeds.json").write_text(json.dumps(index))
    return root


@pytest.fixture
def several(tmp_path):
    """Forty folders of three pairs each, which differ in their width."""
    return write_set(tmp_path / "set", {f"{n:07d}": ("0", "1", "2") for n in range(40)})


def ids(source):
    return [triplet.id for triplet in strict(source.read(range(len(source))))]


def test_folder_name_is_the_id_and_the_captions_are_read(tmp_path):
    root = write_set(tmp_path, {"0000012": ("17",)})
    (triplet,) = read_triplets(InstructPix2PixFolder(root), validate=False)
    assert triplet.id == "0000012"
    assert triplet.instruction == "edit 0000012"
    assert (triplet.original_caption, triplet.edited_caption) == ("before 0000012", "after")
    assert triplet.original == picture(size=(16, 8))
    assert triplet.edited == AFTER
    assert triplet.source == "instruct_pix2pix"


def test_older_caption_key_png_pictures_and_integer_seeds(tmp_path):
    write_example(tmp_path, "a", suffix="png")
    (tmp_path / "a" / "prompt.json").write_text(json.dumps({"edit": "e", "caption": "c"}))
    (tmp_path / "seeds.json").write_text(json.dumps([["a", [17]]]))
    (triplet,) = read_triplets(InstructPix2PixFolder(tmp_path))
    assert (triplet.original_caption, triplet.edited_caption) == ("c", None)


def test_one_pair_a_folder_is_chosen_by_seed_and_name_alone(several):
    def widths(source, positions):
        return [triplet.original_image().width for triplet in strict(source.read(positions))]

    def one(**options):
        return InstructPix2PixFolder(several, seeds="one", **options)

    everything = widths(one(), range(40))
    assert set(everything) == {8, 9, 10}
    assert widths(one(), range(40)) == everything
    assert widths(one(seed=1), range(40)) != everything
    assert widths(one(split="val"), range(2)) == everything[36:38]
    assert one().notes == [
        "40 folders hold 120 pairs: one of each is taken for good, 80 are left out "
        "(seeds=all reads them)"
    ]


def test_all_pairs_have_ids_of_their_own(several):
    source = InstructPix2PixFolder(several, seeds="all")
    assert len(source) == 120
    assert [t.id for t in read_triplets(source, max_examples=4)] == [
        *("0000000_0", "0000000_1", "0000000_2", "0000001_0")
    ]


def test_all_pairs_of_a_folder_are_a_group_by_default(several):
    write_example(several, "0000040", ("7",))
    index = json.loads((several / "seeds.json").read_text())
    (several / "seeds.json").write_text(json.dumps([*index, ["0000040", ["7"]]]))
    source = InstructPix2PixFolder(several)
    assert source.notes == ["40 folders hold 120 pairs: an epoch reads one of each"]
    triplets = list(strict(source.read(range(len(source)))))
    assert len(triplets) == 121
    assert [(t.id, t.group) for t in triplets[:2]] == [
        ("0000000_0", "0000000"),
        ("0000000_1", "0000000"),
    ]
    assert (triplets[-1].id, triplets[-1].group) == ("0000040", "")
    # A reward by folder is taken for the pair that seeds="one" takes.
    one = InstructPix2PixFolder(several, seeds="one")
    aliases = source.keys().aliases
    assert list(aliases.values()) == [*one.keys().names[:40], "0000040_7"]
    chosen = [triplets[position].original for position in aliases][:40]
    assert chosen == [t.original for t in strict(one.read(range(40)))]


def test_pictures_are_found_whatever_the_case_of_their_suffix(tmp_path):
    root = write_set(tmp_path, {"0000001": ("17",)}, suffix="JPG")
    (root / "0000001" / "17_1.JPG").rename(root / "0000001" / "17_1.Jpeg")
    (triplet,) = read_triplets(InstructPix2PixFolder(root))
    assert triplet.edited == AFTER


def test_splits_are_by_position_with_floor(tmp_path):
    root = write_set(tmp_path, {f"{n:07d}": ("1",) for n in range(27)})
    train, val, test = (
        ids(InstructPix2PixFolder(root, split=split)) for split in ("train", "val", "test")
    )
    assert (len(train), len(val), len(test)) == (24, 1, 2)
    assert train + val + test == ids(InstructPix2PixFolder(root))


def test_an_instruction_is_chosen_from_a_list(tmp_path):
    edits = ["one", "two", "three"]
    root = write_set(tmp_path, {f"{n:07d}": ("1",) for n in range(30)}, edit=edits)

    def chosen(**options):
        return [t.instruction for t in read_triplets(InstructPix2PixFolder(root, **options))]

    assert set(chosen()) == set(edits)
    assert chosen() == chosen()
    assert chosen(seed=1) != chosen()
    assert chosen(split="test") == chosen()[28:]


def test_folders_without_an_index_are_read_by_name(tmp_path):
    for name in ("b", "a", ".c.part"):
        write_example(tmp_path, name)
    # RewardEdit leaves open what its prompt file is called.
    (tmp_path / "a" / "prompt.json").rename(tmp_path / "a" / "0.json")
    assert ids(InstructPix2PixFolder(tmp_path)) == ["a", "b"]
    assert ids(InstructPix2PixFolder(tmp_path, seeds="all")) == ["a_17", "b_17"]
    write_example(tmp_path, "c", ("1", "2"))
    assert ids(InstructPix2PixFolder(tmp_path)) == ["a", "b", "c_1", "c_2"]
    (tmp_path / "b" / "17_0.jpg").unlink()
    with pytest.raises(DataError, match=r"b: want pictures \*_0, \*_1 and a prompt\.json"):
        ids(InstructPix2PixFolder(tmp_path))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", r"seeds\.json: not JSON"),
        ({"a": ["1"]}, r"seeds\.json: want a list"),
        ([["a", ["1"]], ["a", ["2"]]], "entry 1: folder 'a' stands there twice"),
        ([["a", "1"]], "entry 0 is .*; want"),
        ([["a", []]], "entry 0 is .*; want"),
        ([["a", ["1"], 2]], "entry 0 is .*; want"),
        ([["a", [None]]], "entry 0 is .*; want"),
    ],
)
def test_an_index_of_another_shape_is_refused(tmp_path, index, message):
    text = index if isinstance(index, str) else json.dumps(index)
    (tmp_path / "seeds.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_triplets(InstructPix2PixFolder(tmp_path))


def test_an_empty_index_is_an_empty_set(tmp_path):
    (tmp_path / "seeds.json").write_text("[]")
    assert len(InstructPix2PixFolder(tmp_path)) == 0


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("17_1.jpg", None, r"0000001 \(seed 17\): no picture .*17_1 with a suffix"),
        ("17_1.jpg", b"", r"0000001 \(seed 17\): .*17_1\.jpg is empty"),
        ("17_1.jpg", b"no", r"0000001 \(seed 17\): edited picture: not a picture"),
        ("17_1.jpg", picture(size=(16, 8))[:-30], r"0000001 \(seed 17\): edited picture: damaged"),
        ("17_1.jpg", picture(size=(4, 4)), "differ in size, 16x8 and 4x4"),
        ("prompt.json", None, r"0000001/prompt\.json: no such file"),
        ("prompt.json", b"[]", r"0000001/prompt\.json: want an object"),
        ("prompt.json", b"{}", r"0000001/prompt\.json: 'edit' is None"),
        ("prompt.json", b'{"edit": []}', r"prompt\.json: 'edit' is \[\]"),
        ("prompt.json", b'{"edit": "e", "input": 3}', "original_caption 3 is not a text"),
    ],
    ids=range(10),
)
def test_damage_is_named_by_folder(tmp_path, file, content, message):
    write_set(tmp_path, {"0000001": ("17",)})
    (tmp_path / "0000001" / "17_1.jpg").write_bytes(picture(size=(16, 8)))
    path = tmp_path / "0000001" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_triplets(InstructPix2PixFolder(tmp_path), validate=True))


def test_wrong_options_name_what_there_is(tmp_path):
    (tmp_path / "seeds.json").write_text("[]")
    with pytest.raises(ConfigError, match="want one of all, train, val, test"):
        InstructPix2PixFolder(tmp_path, split="dev")
    with pytest.raises(ConfigError, match="want 'drawn', 'one' or 'all'"):
        InstructPix2PixFolder(tmp_path, seeds="two")
    with pytest.raises(ConfigError, match=r"no option 'sead'.*did you mean 'seed'"):
        open_source("instruct_pix2pix", tmp_path, sead=1)
    with pytest.raises(ConfigError, match=r"did you mean 'magicbrush'"):
        open_source("magicbush", tmp_path)
    with pytest.raises(DataError, match="none: no such folder"):
        InstructPix2PixFolder(tmp_path / "none")


def test_what_a_mac_packs_beside_is_no_example(several):
    (several / "seeds.json").unlink()
    plain = InstructPix2PixFolder(several)
    (several / "__MACOSX").mkdir()
    folder = next(
        path for path in sorted(several.iterdir()) if path.is_dir() and path.name[0] != "_"
    )
    for name in ("._1_0.jpg", "._prompt.json", ".DS_Store"):
        (folder / name).write_bytes(b"x")
    assert InstructPix2PixFolder(several).keys() == plain.keys()
