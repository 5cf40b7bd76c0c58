"""The run as a whole."""

from adaptive_samplers.config.fields import Section, key
from adaptive_samplers.config.model.types import NAME, Seed


class Run(Section):
    """The run as a whole."""

    name: str = key(
        "Results go to `results/{name}/`. A new name starts a new run beside the old one.",
        example="name: my_run",
        **NAME,
    )
    title: str = key("Title of the report.", default="Adaptive Samplers", min_length=1)
    seed: Seed = key(
        "Number from which every random draw of the run is derived.",
        default=20260101,
        affects=(
            "generate_candidates",
            "label_quality",
            "train_sampler",
            "train_on_outcomes",
            "train_on_policy",
            "explain_prompt",
            "estimate_samplers",
            "sample_with_sampler",
            "compare_samplers",
            "learn_heuristic",
            "portray_sampler",
            "measure_repeated_sampling",
            "sample_policy",
            "pair_iteration",
            "train_policy",
            "make_preferences",
        ),
    )
