"""Policies, language models that were trained further: sampled, labelled, and trained again iteration by iteration.

Answers are made by `generation`. This package has what differs: where policies come from (`sources`), which prompts
they answer (`prompt_slices`), and their samples as one table (`samples`) and in the formats of other tools (`formats`).
"""
