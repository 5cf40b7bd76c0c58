"""Explanations of sampling: what ways of sampling make of a model's distributions along one answer.

`ways` are the chains, samplers and families that are shown, `steps` computes what each makes of each distribution and
would have drawn, `terminal` and `page` show it, `asking` and `models` read what is wanted. From the command line:
`python -m adaptive_samplers.explain --prompt TEXT` (docs/explain.md).
"""
