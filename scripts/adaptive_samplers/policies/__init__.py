"""Policies, language models that were trained further: sampled, labelled, and trained again iteration by iteration.

Answers are made by what `generation` has. Here is what differs: where policies come from (`sources`), which prompts
they answer (`prompts`), their samples as one table (`samples`) and in the formats of others (`formats`).
"""
