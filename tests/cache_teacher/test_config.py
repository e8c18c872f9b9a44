import pytest

from cache_teacher.config import limit_views
from pld.views import Fixed, RandomResizedCrop, draw_view


@pytest.mark.parametrize("policy", [Fixed(), Fixed(crop_fraction=1.0), Fixed(crop_fraction=0.95, seed=3)])
@pytest.mark.parametrize("wanted", [2, 10, 50])
def test_a_policy_that_draws_one_view_has_one_cached_and_says_so(policy, wanted):
    assert len({draw_view("key", index, (40, 60), policy) for index in range(wanted)}) == 1
    note = f"fixed draws one view of each image: 1 view is cached in place of {wanted}"
    assert limit_views(policy, wanted) == (1, note)


@pytest.mark.parametrize("policy", [Fixed(), Fixed(crop_fraction=0.5)])
def test_one_view_of_it_is_nothing_to_speak_of(policy):
    assert limit_views(policy, 1) == (1, None)


@pytest.mark.parametrize("policy", [RandomResizedCrop(), RandomResizedCrop(scale=(1.0, 1.0), flip=False, seed=7)])
@pytest.mark.parametrize("wanted", [1, 2, 50])
def test_random_crops_are_as_many_as_were_asked_for(policy, wanted):
    assert limit_views(policy, wanted) == (wanted, None)
