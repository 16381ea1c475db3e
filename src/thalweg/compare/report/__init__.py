"""The report: one HTML file that needs no network, made from the results alone."""

from thalweg.compare.report.page import render

__all__ = ["render"]
