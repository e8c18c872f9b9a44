"""How many views of each image there are to cache."""

from __future__ import annotations

from pld.views import Fixed, Policy


def views_to_cache(policy: Policy, wanted: int) -> tuple[int, str | None]:
    """The number of views that differ, and what to tell the user where that is not what was asked for.

    Args:
        policy: how views are drawn.
        wanted: views of each image that were asked for, at least 1.

    Returns:
        `wanted` and None, or 1 and a sentence where the policy draws the same view every time.
    """
    if isinstance(policy, Fixed) and wanted > 1:
        return 1, f"fixed draws one view of each image: 1 view is cached in place of {wanted}"
    return wanted, None
