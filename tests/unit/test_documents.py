"""What the documents name is there: files, folders, links, and the files of a run."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from adaptive_samplers.tables import SCHEMAS
from how_to import fenced_blocks
from support import REPOSITORY, of_workflow

DOCUMENTS = sorted(
    str(path.relative_to(REPOSITORY))
    for path in (*REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("*.md"), REPOSITORY / "config" / "README.md")
)
IGNORED = {line.strip("/\n") for line in (REPOSITORY / ".gitignore").open()} | {".git"}
# Top-level files and folders; a run's own `report.html` and the like are none of them.
TOP = {path.name for path in REPOSITORY.iterdir() if not any(fnmatchcase(path.name, name) for name in IGNORED)}
PLACES = TOP | {str(path.relative_to(REPOSITORY)) for top in TOP for path in (REPOSITORY / top).rglob("*")}
SOURCE = (".py", ".smk", ".sh", ".toml", ".lock", ".yaml", ".md", ".txt")
# What users write or make, in the documents as on their machines.
NOT_OURS = {"my.yaml", "bench/results.json", "bench/gpu_results.json", "config.yaml", "tables/closed_form.txt"}


def named_paths(document: str) -> Iterator[str]:
    """What looks like a path of this repository: in backticks, and in fenced blocks from the top of the repository."""
    text = (REPOSITORY / document).read_text()
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    words = [word for code in re.findall(r"`([^`]+)`", outside) for word in code.split()]
    for word in words:
        word = word.strip("\"',;()")
        if word.split("/")[0] in TOP or (word.endswith(SOURCE) and not re.search(r"[=:]", word)):
            yield word
    commands = [*(block.text for block in fenced_blocks(text)), *re.findall(r"^    \S.*", outside, re.MULTILINE)]
    for word in (word for block in commands for word in re.findall(r"[\w./{},*-]+", block)):
        word = word.strip(".,").removeprefix("./")
        if "/" in word and word.split("/")[0] in TOP:
            yield word


def is_there(path: str) -> bool:
    """Whether a path, which may have placeholders and alternatives in braces, is one of the repository or ends one."""
    pattern = re.sub(r"\{[^}]*\}|\*", "*", path.rstrip("/"))
    if (REPOSITORY / path).exists():
        return True  # also behind a link
    return any(fnmatchcase(place, pattern) or fnmatchcase(place, f"*/{pattern}") for place in PLACES)


def written_by(document: str) -> set[str]:
    """The files that a how-to page has its reader write."""
    blocks = fenced_blocks((REPOSITORY / document).read_text())
    return {block.path for block in blocks if block.path and not block.place}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_exists(document):
    missing = {path for path in named_paths(document) if not is_there(path)} - NOT_OURS - written_by(document)
    assert not missing


def test_paths_are_found():
    found = set(named_paths("CONTRIBUTING.md"))
    assert {"rules/", "scripts/adaptive_samplers/versions.py", "tests/unit", "config/presets/smoke.yaml"} <= found
    assert is_there("engines/drawing.py") and is_there("scripts/adaptive_samplers/engines/{name}_engine.py")
    assert not is_there("scripts/adaptive_samplers/heuristics.py") and not is_there("drawings.py")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    text = (REPOSITORY / document).read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        if re.match(r"\w+:", path):
            continue
        place = ((REPOSITORY / document).parent / path).resolve() if path else REPOSITORY / document
        assert place.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)", place.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", words).lower().replace(" ", "-") for words in headings}, target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_document_counts_lines(document):
    """They move with every change above them."""
    text = (REPOSITORY / document).read_text()
    assert not re.findall(r"\.(?:py|smk|sh|yaml|md)`?(?::| ?, line | line )\d+|#L\d+", text)


# What has rules only where a config asks for it.
EVERYTHING = {
    "generation": {"adaptive": {"enabled": True}},
    "iteration": {"command": "train {data} {model} {output}"},
    "labels": {
        "overlap": {"enabled": True, "corpus": ["README.md"]},
        "quality": {"others": [{"kind": "endpoint", "name": "far", "base_url": "http://node:1/v1", "model": "m"}]},
    },
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, tokengrams: None) -> set[str]:
    """What rules write below `results/{run}/`, with `*` for their wildcards."""
    found = set()
    for name in ("budgets", "judges"):
        # Budgets want one judge.
        config = {**EVERYTHING, **({"generation": {}} if name == "judges" else {"labels": {}})}
        place = tmp_path_factory.mktemp(name) / "all.yaml"
        place.write_text(yaml.safe_dump(config))
        outputs = "[str(output) for rule in workflow.rules for output in rule.output]"
        written = of_workflow(outputs, REPOSITORY, "config/config.yaml", place)
        # The generation of samplers is a folder of its own, or none.
        own = (re.sub(r"\{sampler_generation[^{}]*\}", "", output) for output in written)
        found |= {re.sub(r"\{[^{}]*\}", "*", output) for output in own}
    return {output.removeprefix("results/*/") for output in found}


def tables_page() -> list[str]:
    """The files in the first columns of docs/tables.md, with `*` for what varies."""
    rows = re.findall(r"^\| (`.*?`(?:, `.*?`)*) \|", (REPOSITORY / "docs" / "tables.md").read_text(), re.MULTILINE)
    found = []
    for row in rows:
        folder = ""
        for name in re.findall(r"`(.*?)`", row):
            name = re.sub(r"\{[^}]*\}", "*", name).rstrip("/")
            # Beside the first one of a row, and of an ending alone, the first one with that.
            if name.startswith("."):
                name = str(Path(found[-1]).with_suffix(name))
            elif found and folder and "/" not in name.removeprefix("*/"):
                name = f"{folder}/{name}"
            folder = folder or str(Path(name).parent)
            found.append(name.removeprefix("./"))
    return found


def test_every_file_on_the_page_of_tables_is_written_by_a_rule(outputs):
    named = tables_page()
    assert len(named) > 40
    assert not [name for name in named if not any(fnmatchcase(output, name) or output == name for output in outputs)]


def test_every_table_of_a_run_is_on_the_page(outputs):
    """By its name: the same tables come again below `evaluation/`, `first_phase/` and the like."""
    named = {Path(name).name for name in tables_page()} | {"shard=*.parquet", "*.parquet", "*_top*.parquet"}
    # Of iterations of a policy, docs/iteration.md tells.
    tables = {Path(output).name for output in outputs if output.endswith(".parquet") and "iteration/" not in output}
    assert not [table for table in tables if not any(fnmatchcase(table, name) for name in named)]


def test_every_column_is_on_the_page():
    text = (REPOSITORY / "docs" / "tables.md").read_text()
    columns = {column for schema in SCHEMAS.values() for column in schema.names}
    # Of a pair, the page says it of the chosen answer.
    told = {column.replace("_rejected", "_chosen") for column in columns}
    assert not [column for column in told if not re.search(rf"\b{column}\b", text)]
