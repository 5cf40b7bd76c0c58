"""Write what is made from the config's model: tables in config/README.md and docs/what_reruns.md, and a JSON schema.

python scripts/document_config.py
"""

from pathlib import Path

from adaptive_samplers.config.document import json_schema, with_key_table, with_stage_table

REPOSITORY = Path(__file__).resolve().parents[1]
SCHEMA = REPOSITORY / "config" / "schemas" / "config.schema.json"

if __name__ == "__main__":
    for name, made in {"config/README.md": with_key_table, "docs/what_reruns.md": with_stage_table}.items():
        path = REPOSITORY / name
        path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")
    SCHEMA.write_text(json_schema(), encoding="utf-8")
