"""The version of every stage, which is part of its rule's params.

Snakemake reruns a rule when its script changes, but not when a module changes that the script imports, and
declaring modules as inputs would rerun days of work after a comment. So: raise a stage's version when its output
would differ for the same input, and only then. tests/unit/test_stage_versions.py fails when a stage's output on a
small fixed input changes and its version does not.
"""

STAGE_VERSIONS = {
    "collect_prompts": 2,
    "expand_heuristics": 2,
    "generate_candidates": 1,
    "verify_candidates": 1,
    "allocate_budget": 2,
    "train_judge": 1,
    "embed_candidates": 1,
    "label_quality": 3,
    "combine_quality": 1,
    "label_diversity": 2,
    "label_correctness": 3,
    "index_corpus": 2,
    "label_overlap": 2,
    "score_candidates": 2,
    "select_training_set": 1,
    "summarize_selection": 1,
    "summarize_labels": 2,
    "tabulate_labels": 2,
    "replay_distributions": 3,
    "train_sampler": 3,
    "train_on_outcomes": 4,
    "train_on_policy": 1,
    "estimate_samplers": 3,
    "learn_heuristic": 2,
    "portray_sampler": 1,
    "compare_samplers": 1,
    "declare_plan": 1,
    "compare_families": 2,
    "extract_final_answers": 2,
    "measure_repeated_sampling": 1,
    "probe_distributions": 1,
    "explain_prompt": 1,
    "slice_prompts": 1,
    "gather_policy_samples": 3,
    "plan_iterations": 2,
    "gather_iteration": 1,
    "score_iteration": 1,
    "train_policy": 1,
    "make_preferences": 3,
    "export_preferences": 2,
    "describe_preferences": 3,
    "figures": 4,
    "tables": 4,
    "paper": 1,
}
# Stages that do the same as another one, with different parts of the config.
SAME_AS = {
    "record_draws": "replay_distributions",
    "sample_with_sampler": "generate_candidates",
    "sample_policy": "generate_candidates",
    "verify_policy_samples": "verify_candidates",
    "pair_iteration": "make_preferences",
    "plot_tradeoff": "figures",
}
STAGE_VERSIONS |= {stage: STAGE_VERSIONS[same] for stage, same in SAME_AS.items()}
