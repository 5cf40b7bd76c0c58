"""Write the tables in the documents of what is declared elsewhere.

Those of keys and heuristics in config/README.md are of config/schemas/config.schema.yaml, that of measures in
docs/tables.md is of adaptive_samplers/measures.py.

python scripts/document_config.py
"""

from pathlib import Path

from adaptive_samplers.config import with_key_table
from adaptive_samplers.rendering import with_measures

REPOSITORY = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    for name, made_anew in {"config/README.md": with_key_table, "docs/tables.md": with_measures}.items():
        document = REPOSITORY / name
        document.write_text(made_anew(document.read_text(encoding="utf-8")), encoding="utf-8")
