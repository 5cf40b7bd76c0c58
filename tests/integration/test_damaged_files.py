"""Every file of a finished run that stages read, damaged: it is noticed, and said in a sentence that names it."""

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptive_samplers import AdaptiveSampler
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.models.fetch import check_model
from adaptive_samplers.tables import SCHEMAS, read_batches, read_table
from adaptive_samplers.tensors import load_tensors
from support import Workflow

pytestmark = [pytest.mark.pipeline, pytest.mark.model, pytest.mark.fault]

# Where a table is not named after its file.
TABLES = {
    "candidates/": "candidates",
    "evaluation/samplers/": "candidates",
    "labels/quality/": "quality",
    "evaluation/labels/quality/": "quality",
    "training_sets/": "training_sets",
}
# What people read, and no stage does.
FOR_PEOPLE = {".pdf", ".png", ".html", ".csv", ".tex", ".md"}
READ_BY_NOBODY = re.compile(r"tensorboard/|\.snakemake_timestamp")


def copied(workflow: Workflow, folder: Path) -> Workflow:
    """The finished run once more, in links: a damaged file takes a link's place, and the run itself stays whole."""
    shutil.copytree(workflow.folder, folder, symlinks=True, copy_function=os.link)
    return Workflow(folder, base=workflow.base)


def table_of(path: str) -> str:
    """The table in a Parquet file of a run."""
    for beginning, name in TABLES.items():
        if path.startswith(beginning):
            return name
    return Path(path).stem


def reader(run: Path, path: Path) -> Callable[[], Any]:
    """How stages read a file."""
    inside = str(path.relative_to(run))
    if inside.startswith("models/"):
        return lambda: check_model(run / Path(inside).parents[-3])
    if inside.startswith("samplers/") and path.name in ("config.json", "model.safetensors"):
        return lambda: AdaptiveSampler.from_pretrained(path.parent)
    if path.suffix == ".parquet":
        name = table_of(inside)
        assert name in SCHEMAS, f"which table is in {inside}?"
        return lambda: (read_table(name, path), list(read_batches(name, path)))
    if path.suffix == ".safetensors":
        return lambda: load_tensors(path)
    assert path.suffix == ".json", f"who reads {inside}?"
    return lambda: read_json(path)


def damage(path: Path, way: str, generator: random.Random) -> None:
    """Turn one bit over, or cut the file short. What else links to the file keeps its content."""
    content = bytearray(path.read_bytes())
    if way == "flipped":
        # White space between the parts of JSON says nothing.
        places = [
            place
            for place in generator.sample(range(len(content)), min(100, len(content)))
            if not chr(content[place]).isspace()
        ]
        content[places[0]] ^= 1 << generator.randrange(8)
    else:
        del content[generator.randrange(len(content)) :]
    path.unlink()
    path.write_bytes(content)


def test_every_file_that_a_stage_reads(workflow, tmp_path):
    run = copied(workflow, tmp_path / "work").result("")
    files = [
        path
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.suffix not in FOR_PEOPLE and not READ_BY_NOBODY.search(str(path.relative_to(run)))
    ]
    assert len(files) > 40 and {path.suffix for path in files} >= {".parquet", ".safetensors", ".json"}
    generator = random.Random(20260101)
    for path in files:
        read, whole = reader(run, path), path.with_name(f"{path.name}.whole")
        right = read()
        for way in ("flipped", "cut"):
            os.link(path, whole)
            damage(path, way, generator)
            try:
                read()
            except UserError as error:
                words = str(error)
                assert str(path) in words or (str(path.parent) in words and path.name in words), words
                assert "again" in words, f"what to do is not said: {words}"
            else:
                # Checksums cover pages and footer; in the header of a page, some bits say nothing to a reader.
                same = path.suffix == ".parquet" and read()[0].equals(right[0])
                assert same, f"{path}: nobody noticed that it was {way}"
            os.replace(whole, path)
        read()


# Files, and who reads them; none of the readers waits for another of its set.
TOGETHER = [
    {
        "judge/feature_reward/judge.json": "label_quality",
        "embeddings.parquet": "label_diversity",
        "sketches/shard=0.safetensors": "train_sampler",
    },
    {
        "scores.parquet": "select_training_set",
        "samplers/SamplingNetwork/a0.7_b0.3_c0_top2/model.safetensors": "sample_with_sampler",
        "figures/data/distributions.json": "plot_distributions",
    },
]


@pytest.mark.parametrize("damaged", TOGETHER, ids=["labels", "samplers"])
def test_stages_end_with_a_sentence(workflow, tmp_path, damaged):
    work, generator = copied(workflow, tmp_path / "work"), random.Random(3)
    for path in damaged:
        damage(work.result(path), "flipped", generator)
    # Each stage by itself, as if the others had nothing to do.
    done = work.run("--forcerun", *damaged.values(), "--allowed-rules", "all", "gather_quality", *damaged.values())
    assert done.returncode != 0
    for path, rule in damaged.items():
        found = re.findall(rf"error in rule {rule}: (.*)", done.stdout)
        assert found and all(str(Path("results/smoke", path)) in words for words in found), done.stdout[-3000:]
    assert "Traceback" not in done.stdout
