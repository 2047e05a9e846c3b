"""The report of a study: one HTML file that needs nothing else to be read."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outcrop.report.figure import Drawing, Figure, Picture, Run, Sign, Table
    from outcrop.report.page import write_report

__all__ = ["Drawing", "Figure", "Picture", "Run", "Sign", "Table", "write_report"]


def __getattr__(name: str) -> object:
    # Drawing pulls in bokeh and jinja; whoever only lists figures must not pay for that.
    if name == "write_report":
        from outcrop.report.page import write_report

        return write_report
    if name in __all__:
        from outcrop.report import figure

        return getattr(figure, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
