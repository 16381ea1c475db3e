"""The report: one HTML file that needs no network, made from the results alone."""

from thalweg.compare.report.page import render, write_report

__all__ = ["render", "write_report"]
