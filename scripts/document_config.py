"""Write what is made from declarations: tables in the documents, and the JSON schema of configs.

python scripts/document_config.py
"""

from pathlib import Path

from adaptive_samplers.config.document import json_schema, with_key_table, with_stage_table
from adaptive_samplers.rendering import with_measures

REPOSITORY = Path(__file__).resolve().parents[1]
WRITTEN = {
    "config/README.md": with_key_table,
    "docs/what_reruns.md": with_stage_table,
    "docs/tables.md": with_measures,
}
SCHEMA = REPOSITORY / "config" / "schemas" / "config.schema.json"

if __name__ == "__main__":
    for name, made in WRITTEN.items():
        path = REPOSITORY / name
        path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")
    SCHEMA.write_text(json_schema(), encoding="utf-8")
