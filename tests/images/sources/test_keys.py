"""A key is the sample's own, and a source is matched to the keys that a store holds."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import DataError
from pld.images.sources.keys import NO_MATCH, KeyMatcher, first_version_keys, match_keys, sample_key, sample_keys

PART = st.text("ab_1", min_size=1, max_size=3)
PATHS = st.lists(st.lists(PART, min_size=1, max_size=3).map("/".join), min_size=1, max_size=12, unique=True)


def array(*keys):
    return np.array([key.encode() for key in keys], dtype=np.bytes_)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("n01440764/n01440764_10026", "n01440764_10026"),  # ImageNet's folders, and its flat shards
        ("n01440764_10026", "n01440764_10026"),
        ("train/n01440764/n01440764_10026", "train/n01440764_10026"),
        ("ant/001", "ant/001"),
        ("ant/ant1", "ant/ant1"),
        ("ant/anteater_1", "ant/anteater_1"),
        ("001", "001"),
    ],
)
def test_a_folder_that_the_name_repeats_is_left_out(path, key):
    assert sample_key(path.encode()) == key.encode()


@given(PATHS, st.randoms(use_true_random=False))
def test_a_sample_has_one_key_in_any_subset_and_order(paths, random):
    def keys(some):
        try:
            return dict(zip(some, sample_keys([path.encode() for path in some], some).tolist(), strict=True))
        except DataError:
            return None

    whole = keys(paths)
    part = random.sample(paths, random.randint(1, len(paths)))
    if whole is not None:
        assert keys(part) == {path: whole[path] for path in part}


@given(PATHS)
def test_every_key_that_is_held_is_found_exactly(paths):
    held = array(*paths)
    assert match_keys(held[::-1], held).tolist() == list(range(len(held)))[::-1]


@pytest.mark.parametrize(
    ("keys", "held", "found"),
    [
        (["1", "2"], ["ant/1", "bee/2"], [0, 1]),  # a flat tar, a store of the folders
        (["ant/1", "bee/2"], ["1", "2"], [0, 1]),  # the other way round
        (["train/ant/1"], ["ant/1", "bee/1"], [NO_MATCH]),  # its name is not unique in the store
        (["1"], ["ant/1", "bee/1"], [NO_MATCH]),
        (["bee/1"], ["ant/1"], [NO_MATCH]),  # another image
        (["ant/1", "bee/1"], ["ant/1", "2"], [0, NO_MATCH]),
        (["t/ant/1"], ["ant/1"], [0]),
        (["xant/1"], ["ant/1"], [NO_MATCH]),
        (["ant_1", "bee/ant_1"], ["ant/ant_1", "bee/ant_1"], [0, 1]),  # a store of the version before
    ],
)
def test_keys_match_by_name_where_the_store_leaves_no_doubt(keys, held, found):
    assert match_keys(array(*keys), array(*held)).tolist() == found


@pytest.mark.parametrize(
    ("keys", "held"), [(["ant/1", "bee/1"], ["1"]), (["1", "ant/1"], ["1", "2"]), (["a/b/1", "b/1", "1"], ["c/2", "1"])]
)
def test_two_images_for_one_key_are_refused(keys, held):
    with pytest.raises(DataError, match="both match the store's sample"):
        match_keys(array(*keys), array(*held))


def test_keys_of_the_version_before():
    assert first_version_keys([b"a/1", b"b/1", b"b/2", b"3"]).tolist() == [b"a/1", b"b/1", b"2", b"3"]


@given(PATHS, PATHS)
def test_keys_one_by_one_match_as_keys_at_once_do(paths, held):
    def by_one(matcher):
        return [matcher.match(key) for key in keys.tolist()]

    keys = np.array(list(dict.fromkeys(sample_key(path.encode()) for path in paths)), dtype=np.bytes_)
    try:
        wanted = match_keys(keys, array(*held)).tolist()
    except DataError:
        with pytest.raises(DataError, match="both match the store's sample"):
            by_one(KeyMatcher(array(*held)))
    else:
        assert by_one(KeyMatcher(array(*held))) == wanted


def test_a_key_longer_than_all_held_copies_none_of_them():
    held = array(*(f"{number:064}" for number in range(20_000)))
    matcher = KeyMatcher(held)
    assert matcher.match(b"x" * 65) == NO_MATCH  # makes the other tables
    tracemalloc.start()
    try:
        assert matcher.match(b"0" * 65) == NO_MATCH
        assert matcher.match(b"folder/" + held[7]) == 7
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < held.nbytes / 10
