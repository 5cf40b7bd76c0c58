"""What is declared of engines and judges: light, whole, and true of what it names."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest

from adaptive_samplers.config.model.generation import Generation
from adaptive_samplers.engines.registry import ENGINES, EngineKind, TokenRate
from adaptive_samplers.labels.judges.registry import JUDGES, JudgeKind
from adaptive_samplers.plan import Assumptions
from adaptive_samplers.references import Reference
from support import REPOSITORY

ENTRIES = [*ENGINES.values(), *JUDGES.values()]
LIGHT = """
import sys
from adaptive_samplers import config
from adaptive_samplers.engines.registry import ENGINES
from adaptive_samplers.labels.judges.registry import JUDGES
from adaptive_samplers.preferences.formats import FORMATS
print(*{name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "sglang", "vllm", "datasets", "pandas"})
"""


def test_declarations_load_nothing_heavy():
    command = [sys.executable, "-c", LIGHT]
    done = subprocess.run(command, cwd=REPOSITORY / "scripts", capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("kind", ENTRIES, ids=lambda kind: kind.name)
def test_what_is_named_is_there(kind):
    references = [kind.opened_by]
    if isinstance(kind, EngineKind) and kind.for_judges:
        references.append(kind.for_judges.opened_by)
    assert all(callable(reference.load()) for reference in references)


@pytest.mark.parametrize("place", ["engines.no_engine:open_it", "engines.build:open_it", "nowhere"])
def test_a_reference_to_nothing_is_refused(place):
    with pytest.raises(TypeError, match=f"'{place}' is declared, but"):
        Reference(place)


@pytest.mark.parametrize("entry", [ENGINES["sglang"], JUDGES["scalar"]], ids=["engine", "judge"])
def test_an_entry_that_lacks_something_is_refused_by_its_name(entry):
    facts = {field.name: getattr(entry, field.name) for field in fields(entry)}
    optional = {"columns"}
    for name in facts.keys() - optional:
        with pytest.raises(TypeError, match=f"missing 1 required keyword-only argument: '{name}'"):
            type(entry)(**{key: value for key, value in facts.items() if key != name})


def test_a_judge_cannot_read_what_no_rule_gives():
    with pytest.raises(TypeError, match="judge 'scalar' reads 'oracle'; there are embeddings, model"):
        replace(JUDGES["scalar"], inputs=("oracle",))
    assert isinstance(JUDGES["scalar"], JudgeKind)


@pytest.mark.parametrize("name", ["sglang", "vllm"])
def test_engines_tell_their_gpus_and_endpoints(name):
    sizes = {"tensor_parallel": 2, "data_parallel": 3}
    own, kept_up = (Generation(**{name: {**sizes, "endpoints": given}}) for given in ([], ["http://node:1"]))
    assert ENGINES["transformers"].gpus_of(kept_up, "auto") == 1 and not ENGINES["transformers"].endpoints_of(kept_up)
    assert [ENGINES[name].gpus_of(own, device) for device in ("cuda", "cpu")] == [6, 0]
    assert ENGINES[name].gpus_of(kept_up, "cuda") == 0
    assert ENGINES[name].endpoints_of(kept_up) == ["http://node:1"]


def test_plans_assume_a_rate_of_every_engine():
    rates = [kind.token_rate for kind in ENGINES.values()]
    assert [getattr(Assumptions(), rate.assumption) for rate in rates] == [rate.value for rate in rates]
    assert all(isinstance(rate, TokenRate) and rate.meaning for rate in rates)
