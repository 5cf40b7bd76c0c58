"""The paper's figures: pure functions from tables to matplotlib figures, in one style.

Each module has the function of its name, except `selection.kept` and those that have several, and `draw(files,
settings)`, which reads what its rule in rules/figures.smk has as inputs and returns the rule's figures by name.
`declaration` declares figures, and `style.save` writes a figure in every requested format.
"""
