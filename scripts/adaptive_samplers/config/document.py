"""The tables in config/README.md: every key, and the families of heuristics."""

from collections.abc import Iterable, Sequence

from adaptive_samplers.config.keys import known_keys
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import HEURISTICS

TABLE_BEGIN = "<!-- keys: begin (written by scripts/document_config.py) -->"
TABLE_END = "<!-- keys: end -->"


def with_key_table(text: str) -> str:
    """The text of config/README.md with its tables of keys and of heuristics made anew."""
    before, _, rest = text.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not end:
        raise UserError(f"config/README.md lacks the lines '{TABLE_BEGIN}' and '{TABLE_END}' around its table of keys")
    families = f"The families of heuristics:\n\n{document_families()}"
    return f"{before}{TABLE_BEGIN}\n\n{document_keys()}\n\n{families}\n\n{TABLE_END}{after}"


def document_keys() -> str:
    """A Markdown table of every key: what it may hold, its default, its meaning and what runs again."""
    header = ["Key", "Allowed", "Default", "Meaning", "What runs again"]
    rows = [(f"`{path}`", *described) for path, *described in known_keys()]
    return _table([header, ["---"] * len(header), *rows])


def document_families() -> str:
    """A Markdown table of the families of heuristics: their parameters and what they do."""
    rows = [["Family", "Parameters", "What it does"], ["---"] * 3]
    for name, heuristic in HEURISTICS.items():
        parameters = "; ".join(f"`{key}`: {numbers}" for key, numbers in heuristic.parameters.items())
        rows.append([f"`{name}`", parameters or "none", heuristic.summary])
    return _table(rows)


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
