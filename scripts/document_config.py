"""Write the table of keys in config/README.md from config/schemas/config.schema.yaml.

python scripts/document_config.py
"""

from pathlib import Path

from adaptive_samplers.config.document import with_key_table

README = Path(__file__).resolve().parents[1] / "config" / "README.md"

if __name__ == "__main__":
    README.write_text(with_key_table(README.read_text(encoding="utf-8")), encoding="utf-8")
