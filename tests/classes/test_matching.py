"""Classes are matched by name; numbers follow, and nothing is guessed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.classes.matching import Classes, match_classes
from pld.classes.names import imagenet_names, infer_names, parse_label_names, read_class_map, read_class_names
from pld.errors import ConfigError, DataError, TeacherError

NAMES = st.lists(st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=5), min_size=2, unique=True)


def named(*names, owner="data"):
    return Classes(names=tuple(names), count=len(names), owner=owner)


def numbered(count, owner="data"):
    return Classes(names=None, count=count, owner=owner)


@given(NAMES, st.randoms(use_true_random=False))
def test_any_subset_in_any_order_is_found_by_name(names, random):
    theirs = list(names)
    random.shuffle(theirs)
    ours = random.sample(names, random.randint(1, len(names)))
    match = match_classes(named(*ours), named(*theirs, owner="teacher"))
    assert [theirs[number] for number in match.numbers] == ours
    assert match.note is None


@pytest.mark.parametrize(
    ("ours", "theirs", "numbers"),
    [
        (named("0", "1", "10", "2"), numbered(11, "teacher"), (0, 1, 10, 2)),  # ImageNetV2's folders
        (numbered(3), named("2", "0", "1", owner="teacher"), (1, 2, 0)),
        (named("10", "9", "8"), named(*map(str, range(11)), owner="teacher"), (10, 9, 8)),
    ],
)
def test_names_that_are_numbers_are_those_numbers(ours, theirs, numbers):
    match = match_classes(ours, theirs)
    assert match.numbers == numbers
    assert (match.note is None) == (None not in (ours.names, theirs.names))
    assert match.note is None or "are its numbers" in match.note


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (
            numbered(3),
            named("ant", "bee", "cat", owner="teacher"),
            "data states no class names.*teacher in their order",
        ),
        (named("ant", "bee", "cat"), numbered(3, "teacher"), "teacher states no class names.*data in their order"),
        (numbered(3), numbered(3, "teacher"), None),
    ],
)
def test_as_many_without_names_are_taken_in_order_with_a_word(ours, theirs, said):
    import re

    match = match_classes(ours, theirs)
    assert match.numbers == (0, 1, 2)
    assert match.note is said is None or re.search(said, match.note)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (
            numbered(100),
            numbered(1000, "teacher"),
            "data: 100 classes without names; teacher: 1000 classes without names",
        ),
        (numbered(100), named(*map(str, range(1000)), owner="teacher"), "Nothing says which is which.*--class_names"),
        (named("ant", "bee"), numbered(3, "teacher"), "'ant', 'bee'; teacher: 3 classes without.*--class_map"),
        (
            named("ant", "wasp"),
            named("ant", "bee", "cat", owner="teacher"),
            "1 of 2 classes are not among.*'wasp'.*--class_map",
        ),
        (named(*"abcdefgh"), named("x", "y", owner="t"), r"8 of 8 classes.*'a', 'b', 'c', 'd', 'e', \.\.\. .3 more."),
    ],
)
def test_other_label_spaces_are_refused_and_the_next_step_is_named(ours, theirs, message):
    with pytest.raises(DataError, match=message):
        match_classes(ours, theirs, takes_map=True)
    with pytest.raises(DataError) as caught:  # where no map can be given, none is advised
        match_classes(ours, theirs)
    assert "--class_map" not in str(caught.value)


def test_a_map_says_what_names_do_not():
    theirs = named("n01", "n02", "n03", owner="teacher")
    assert match_classes(named("ant", "n03"), theirs, {"ant": "n02"}).numbers == (1, 2)
    assert match_classes(named("ant", "bee"), theirs, {"ant": "2", "bee": "0"}).numbers == (2, 0)
    assert match_classes(numbered(2), theirs, {"0": "n03", "1": "n01"}).numbers == (2, 0)
    assert match_classes(named("ant", "bee"), numbered(5, "teacher"), {"ant": "4", "bee": "1"}).numbers == (4, 1)
    with pytest.raises(DataError, match="--class_map leaves out '2'"):
        match_classes(numbered(3), theirs, {"0": "n03", "1": "n01"})
    for class_map, message in (
        ({"wasp": "n01"}, "--class_map names 'wasp', which are no classes here"),
        ({"ant": "n09", "n03": "n03"}, "1 of 2 classes are not among"),
        ({"ant": "n03"}, "'ant' and 'n03' are one class of teacher, 'n03'"),
    ):
        with pytest.raises(DataError, match=message):
            match_classes(named("ant", "n03"), theirs, class_map)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "ant\nbee\ncat\n"),
        ("names.txt", "\ufeffant\r\n\r\nbee\r\n cat "),
        ("names.json", json.dumps(["ant", "bee", "cat"])),
        ("names.json", json.dumps({"class_names": ["ant", "bee", "cat"], "view_policy": {}})),
        ("names.json", json.dumps({"bee": 1, "cat": 2, "ant": 0})),
        ("names.json", json.dumps({"2": "cat", "0": "ant", "1": "bee"})),
        ("names.json", json.dumps({"0": ["ant", "an insect"], "1": ["bee", "another"], "2": ["cat", "none"]})),
        ("names.json", json.dumps([{"wnid": "ant", "name": "x"}, {"wnid": "bee", "name": "y"}, {"name": "cat"}])),
    ],
)
def test_files_of_class_names(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_class_names(str(tmp_path / name)) == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("names.txt", "ant\nbee\nant\n", "class 2 is 'ant'; wanted a name for each class"),
        ("names.txt", "\n", "found no names"),
        ("names.json", "[1.5]", "wanted a JSON list of names"),
        ("names.json", '{"ant": 0, "bee": 2}', "wanted a JSON list of names"),
        ("names.json", "{", "not readable as JSON"),
        ("names.json", '["a", ""]', "class 1 is ''"),
    ],
)
def test_wrong_files_of_class_names_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_class_names(str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"cannot be read.*imagenet-1k"):
        read_class_names(str(tmp_path / "nowhere.txt"))


def test_imagenets_names_are_timms():
    assert read_class_names("imagenet-1k")[:2] == ("n01440764", "n01443537")
    assert len(imagenet_names("imagenet-21k")) == 21_843
    assert infer_names(1000) == imagenet_names("imagenet-1k")
    assert infer_names(12) is None


@pytest.mark.parametrize("text", ["ant\tn01\nbee\t7\n", "ant,n01\nbee,7\n", '{"ant": "n01", "bee": 7}'])
def test_class_maps(tmp_path, text):
    path = tmp_path / ("map.json" if text.startswith("{") else "map.tsv")
    path.write_text(text)
    assert read_class_map(str(path)) == {"ant": "n01", "bee": "7"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("ant\n", "line 1: found 'ant'"), ("ant\tn01\nant\tn02\n", "line 2"), ("a,b\n,c", "line 2: found ',c'")],
)
def test_wrong_class_maps_are_refused(tmp_path, text, message):
    (tmp_path / "map.tsv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_class_map(str(tmp_path / "map.tsv"))
    (tmp_path / "map.json").write_text('["ant"]')
    with pytest.raises(ConfigError, match="wanted a JSON object"):
        read_class_map(str(tmp_path / "map.json"))


def test_a_models_label_names_are_one_for_each_class():
    assert parse_label_names(["ant", "bee"], 2, "m") == ("ant", "bee")
    assert parse_label_names({"1": "bee", "0": "ant"}, 2, "m") == ("ant", "bee")
    assert parse_label_names(None, 2, "m") is None
    for stated in (["ant"], ["ant", "ant"], {"0": "ant", "2": "bee"}, 5):
        with pytest.raises(TeacherError, match=r"has .*label_names.*different name for each of 2 classes"):
            parse_label_names(stated, 2, "m")
