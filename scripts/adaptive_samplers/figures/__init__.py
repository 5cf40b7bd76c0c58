"""The paper's figures: pure functions from tables to matplotlib figures, in one style.

Each module has the function of its name: `distributions.distributions`, `tradeoff.tradeoff`, `ranking.ranking`,
`curves.curves`, and `selection.kept`. `style.save` writes a figure in every format asked for.
"""
