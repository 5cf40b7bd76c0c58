"""The paper: a PDF that Typst makes from the text in report/paper and the tables and figures of a run.

`declaration` says what it is made of, `prose` refuses numbers typed by hand, `values` reads tables for the text's
macros, `typeset` makes the PDF, and `manifest` records what it was made of and tells whether that has changed since.
"""
