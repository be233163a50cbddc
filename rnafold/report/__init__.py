"""One self-contained HTML page about a run: curves, targets, 3D views, plan against actual. The door of plotly."""

from rnafold.report.page import write_report

__all__ = ["write_report"]
