"""Self-contained HTML pages: templates of this package, filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pld.report.sections import Section


def render_sections(heading: str, introduction: Sequence[str], sections: Sequence[Section], **more: Any) -> str:
    """A page of sections, with whatever else the template shows."""
    nothing: dict[str, Any] = {"title": heading, "columns": (), "rows": (), "store": (), "store_url": "", "samples": ()}
    values = {**nothing, "heading": heading, "introduction": introduction, "sections": sections, **more}
    return render("page.html.jinja", **values)


def render(template: str, **values: Any) -> str:
    """HTML with everything inside: no script, no font, no picture from elsewhere. Values are text, not markup."""
    environment = Environment(loader=PackageLoader("pld.report"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(**values)
