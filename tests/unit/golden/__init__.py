"""Every stage's output on a small fixed input, for test_stage_versions.py: functions of a folder to work in.

A stage with outputs of several kinds has one under its name, and others under its name, a slash and theirs.
"""

from functools import partial

from adaptive_samplers.labels.diversity import label_diversity
from adaptive_samplers.policies.iterations import plan_iterations
from golden.answers import (
    golden_allocation,
    golden_engine,
    golden_explanation,
    golden_generation,
    golden_heuristics,
    golden_iteration,
    golden_policy_samples,
    golden_prompts,
    golden_rescoring,
    golden_slice,
    golden_verification,
)
from golden.inputs import PROMPTS, TEXTS, candidates, embeddings
from golden.judges import JUDGES, golden_tournaments
from golden.labels import (
    final_answers,
    golden_combination,
    golden_correctness,
    golden_index,
    golden_judge,
    golden_labels,
    golden_labels_page,
    golden_overlap,
    golden_quality,
    golden_repeated_sampling,
    golden_text_judge,
    golden_text_quality,
)
from golden.preferences import golden_card, golden_exports, golden_preferences
from golden.protocol import golden_families, golden_plan
from golden.training import (
    golden_comparison,
    golden_estimates,
    golden_front,
    golden_learnability,
    golden_on_policy,
    golden_outcomes,
    golden_portrait,
    golden_probes,
    golden_replay,
    golden_scores,
    golden_selection,
    golden_summary,
    golden_tables,
    golden_training,
)

GOLDEN = {
    "allocate_budget": golden_allocation,
    "collect_prompts": golden_prompts,
    "expand_heuristics": golden_heuristics,
    "generate_candidates": golden_generation,
    "generate_candidates/engine": golden_engine,
    "verify_candidates": golden_verification,
    "train_judge": golden_judge,
    "train_judge/text": golden_text_judge,
    "label_quality": golden_quality,
    "label_quality/text": golden_text_quality,
    **{f"label_quality/{kind}": partial(golden_tournaments, kind) for kind in JUDGES},
    "combine_quality": golden_combination,
    "label_diversity": lambda _: label_diversity(candidates(), embeddings(TEXTS)),
    "label_correctness": golden_correctness,
    "index_corpus": golden_index,
    "label_overlap": golden_overlap,
    "score_candidates": golden_scores,
    "select_training_set": golden_selection,
    "summarize_selection": golden_summary,
    "summarize_labels": golden_labels,
    "tabulate_labels": golden_labels_page,
    "replay_distributions": golden_replay,
    "train_sampler": golden_training,
    "train_on_outcomes": golden_outcomes,
    "train_on_policy": golden_on_policy,
    "train_on_outcomes/front": golden_front,
    "estimate_samplers": golden_estimates,
    "learn_heuristic": golden_learnability,
    "portray_sampler": golden_portrait,
    "compare_samplers": golden_comparison,
    "declare_plan": golden_plan,
    "compare_families": golden_families,
    "make_preferences": golden_preferences,
    "export_preferences": golden_exports,
    "describe_preferences": golden_card,
    "extract_final_answers": final_answers,
    "measure_repeated_sampling": golden_repeated_sampling,
    "probe_distributions": golden_probes,
    "explain_prompt": golden_explanation,
    "slice_prompts": golden_slice,
    "gather_policy_samples": golden_policy_samples,
    "plan_iterations": lambda _: [
        plan_iterations(PROMPTS, ["train", "test"], 0, size, most) for size in (1, 2) for most in (2, None)
    ],
    "gather_iteration": golden_iteration,
    "score_iteration": golden_rescoring,
    "tables": golden_tables,
}


# Whose numbers come from a model in float32, the last digits of which are the processor's.
BY_A_MODEL = {"generate_candidates/engine", "explain_prompt", "score_iteration"}
BY_A_MODEL |= {f"label_quality/{kind}" for kind in ("scalar", "pairwise", "likelihood")}
WITHOUT_GOLDEN = {
    "train_policy": "what is trained is the user's command's; test_policy_iterations looks at what the command is told",
    "embed_candidates": "the vectors are an embedding model's, and a model is too large for a test of seconds",
    "figures": "what matplotlib draws differs from one version to the next; test_figures looks at what is in them",
    "paper": "what Typst sets differs from one version to the next; test_paper looks at what is in it",
}
