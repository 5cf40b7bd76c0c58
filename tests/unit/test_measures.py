"""Each measure is declared once: what is incomplete is refused, and all that reads measures has the same ones."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from adaptive_samplers.config.schema import config_schema
from adaptive_samplers.labels.diversity import _measured
from adaptive_samplers.measures import (
    CANDIDATES,
    DIVERSITY_MEASURES,
    LABEL_TABLES,
    LABELS,
    MEASURES,
    OBJECTIVES,
    Measure,
    by_column,
    measures_of,
)
from adaptive_samplers.rendering import with_measures
from adaptive_samplers.tables import KEY, SCHEMAS
from support import REPOSITORY

WHOLE = {
    "table": "diversity",
    "column": "spread",
    "name": "Spread",
    "unit": "bits",
    "meaning": "how far answers lie apart",
    "higher_is_better": True,
    "objective": "spread",
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"table": ""}, "lacks its table"),
        ({"column": "", "name": ""}, "lacks its column; it lacks its name"),
        ({"meaning": ""}, "the measure 'spread' lacks its meaning"),
        ({"unit": ""}, "lacks its unit"),
        ({"higher_is_better": None}, "lacks its direction"),
        ({"table": "diversty"}, "is in none of the tables quality, correctness, diversity, overlap and candidates"),
        ({"table": "overlap"}, "compared by quality, diversity, correctness alone"),
    ],
)
def test_what_lacks_something_is_refused_where_it_is_declared(change, complaint):
    Measure(**WHOLE)
    with pytest.raises(ValueError, match=complaint):
        Measure(**WHOLE | change)


@pytest.mark.parametrize("part", ["table", "column", "name", "unit", "meaning"])
def test_what_is_left_out_is_named(part):
    with pytest.raises(TypeError, match=f"'{part}'"):
        Measure(**{key: value for key, value in WHOLE.items() if key != part})


def test_no_two_measures_share_a_column_or_an_objective():
    with pytest.raises(ValueError, match="column 'spread' is declared twice"):
        by_column([Measure(**WHOLE), Measure(**WHOLE)])
    with pytest.raises(ValueError, match="objective 'spread' is that of two"):
        by_column([Measure(**WHOLE), Measure(**WHOLE | {"column": "width"})])


def test_titles_and_axes():
    measure = Measure(**WHOLE)
    assert (measure.title, measure.axis, measure.sign) == ("Spread (bits)", "Spread (bits)", 1.0)
    lower = Measure(**WHOLE | {"unit": None, "higher_is_better": False})
    assert (lower.title, lower.axis, lower.sign) == ("Spread", "Spread (lower is more diverse)", -1.0)
    rate = Measure(**WHOLE | {"table": "quality", "higher_is_better": False, "axis": ""})
    assert rate.axis == "Spread (lower is better)" and Measure(**WHOLE | {"axis": "x"}).axis == "x"


def test_tables_have_a_column_for_every_measure():
    for table in LABEL_TABLES:
        schema = SCHEMAS[table]
        names = [measure.column for measure in measures_of(table)]
        assert [name for name in schema.names if name in names] == names and names
        for measure in measures_of(table):
            assert schema.field(measure.column) == pa.field(measure.column, pa.type_for_alias(measure.type))
    assert {measure.table for measure in MEASURES.values()} == {*LABEL_TABLES, CANDIDATES}
    assert [name for name in SCHEMAS["diversity"].names if name not in (*KEY, "group_size")] == list(DIVERSITY_MEASURES)


def test_diversity_is_measured_by_what_is_declared():
    assert list(_measured(np.array(["one", "two"]), np.eye(2))) == list(DIVERSITY_MEASURES)


def test_the_config_allows_what_is_declared():
    properties = config_schema()["properties"]
    assert set(properties["scoring"]["properties"]["diversity_measure"]["enum"]) == set(DIVERSITY_MEASURES)
    assert set(properties["evaluation"]["properties"]["objectives"]["items"]["enum"]) == set(OBJECTIVES)


def test_samplers_are_compared_by_what_is_scored():
    assert {measure.table for measure in OBJECTIVES.values()} == set(LABELS)
    # scoring.diversity_measure is one of evaluation.objectives, by the same name.
    assert all(OBJECTIVES[name] is measure for name, measure in DIVERSITY_MEASURES.items())


def test_the_page_of_tables_tells_of_every_measure():
    page = (REPOSITORY / "docs" / "tables.md").read_text()
    assert page == with_measures(page), "run: python scripts/document_config.py"


def test_measures_need_no_library():
    code = "import sys, adaptive_samplers.measures; print({'numpy', 'pandas', 'pyarrow', 'torch'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY / "scripts", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
