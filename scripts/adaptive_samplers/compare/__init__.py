"""Families of samplers compared with equal numbers of tries: on runs of this project, and on anybody's results.

`results` holds what was measured; `reading` finds it in files, in runs of this project (`runs`) and in the logs of
lm-evaluation-harness; `plan` says beforehand what is compared; `tuning` chooses configurations on one part of the
prompts and reads them on another; `statistics` has the tests; `families` brings all together, and `planned` for a run
with its plan. From the command line:
`python -m adaptive_samplers.compare FILE` (docs/evaluation.md).
"""

from adaptive_samplers.compare.families import Comparison, Settings, compare_families
from adaptive_samplers.compare.reading import read_results
from adaptive_samplers.compare.results import Results, results_of_table
from adaptive_samplers.compare.statistics import PairedTest, detectable_difference, holm, paired_test
from adaptive_samplers.compare.tuning import chances_to_be_chosen

__all__ = [
    "Comparison",
    "PairedTest",
    "Results",
    "Settings",
    "chances_to_be_chosen",
    "compare_families",
    "detectable_difference",
    "holm",
    "paired_test",
    "read_results",
    "results_of_table",
]
