"""Turn what is shown into HTML: the template, bokeh's script and documents, all inside the page."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup


def render(values: Mapping[str, object], *, assets: object) -> str:
    """Return the page; every text is escaped.

    Args:
        values: What the template names.
        assets: JSON values that the page's script reads.
    """
    import jinja2
    from bokeh.resources import Resources

    from outcrop.report.figure import Picture
    from outcrop.report.style import palette

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("outcrop.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell_text
    environment.tests["right"] = lambda cell: isinstance(cell, int | float) and not isinstance(cell, bool)
    environment.tests["picture"] = lambda cell: isinstance(cell, Picture)
    scripts = Resources(mode="inline", components=["bokeh"]).js_raw
    return environment.get_template("report.html").render(
        bokeh="\n".join(script.replace("</script", "<\\/script") for script in scripts),
        stops=palette()[::15],
        assets=_closed(json.dumps(assets, allow_nan=False, separators=(",", ":"))),
        **values,
    )


def embedded_document(plots: Sequence[Any], elements: Sequence[str]) -> "Markup":
    """Return bokeh models as one JSON document, with the page elements that its roots go into."""
    from bokeh.core.json_encoder import serialize_json
    from bokeh.document import Document

    document = Document()
    for plot in plots:
        document.add_root(plot)
    roots = [root.id for root in document.roots]
    content = {"document": document.to_json(deferred=False), "roots": dict(zip(roots, elements, strict=True))}
    return _closed(serialize_json(content))


def cell_text(cell: object) -> str:
    """Return a table cell as text; NaN as a dash."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        if cell != cell:
            return "\u2013"
        return f"{cell:.3g}" if cell and not 0.01 <= abs(cell) < 1e4 else f"{cell:.2f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _closed(text: str) -> "Markup":
    """Return JSON that stays JSON in a script element: no name in it can end that element or open another."""
    from markupsafe import Markup

    for character in "<>\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
