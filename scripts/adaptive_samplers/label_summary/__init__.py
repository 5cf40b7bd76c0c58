"""Descriptions of a run's labels: distributions, correlations and examples, for the report and for a paper.

`values` reads the labels of all answers a table at a time, `distributions` and `correlations` describe them,
`likelihood` measures how much of a judge's ratings the base model's own log-probabilities explain, `examples` finds the
best and the worst answers, and `summary` combines them. `page` writes the report's page.
"""

from adaptive_samplers.label_summary.correlations import correlations, write_correlations
from adaptive_samplers.label_summary.page import labels_page
from adaptive_samplers.label_summary.summary import distributions_table, summarize_labels

__all__ = [
    "correlations",
    "distributions_table",
    "labels_page",
    "summarize_labels",
    "write_correlations",
]
