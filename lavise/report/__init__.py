"""A comparison as one page: a self-contained HTML file that asks nothing of any network."""

from lavise.report.render import render_report
from lavise.report.selection import Wanted, wanted_pictures

__all__ = ["Wanted", "render_report", "wanted_pictures"]
