"""The wheel, installed where nothing else is but what it asks for: all that the documents show works there.

An environment here holds the wheel and links to the packages that its metadata asks for, with what those ask for in
turn, as the environment that runs the tests has them. So it needs no network, and a package that is imported but not
asked for is missing.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_import_reference import PUBLISHED, reference_model

from adaptive_samplers.extras import EXTRAS
from adaptive_samplers.samplers import SamplingNetwork
from adaptive_samplers.stage import installed_copy
from support import REPOSITORY, SMOKE, working_directory
from tiny_model import write_tiny_model

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}\S.*\n)+")
NAMED_EXTRAS = re.compile(r"pip install '\.\[([\w,-]+)\]'")
TRAINED = "results/demo/samplers/SamplingNetwork/a0_b1_c0_top2"


def code_blocks(document: str) -> list[tuple[str, str]]:
    """Each block of code of a document: its language, empty for shell, and its text."""
    text = (REPOSITORY / document).read_text()
    fenced = [(language, code) for _, language, code in FENCED.findall(text)]
    return fenced + [("", code) for code in INDENTED.findall(FENCED.sub("", text))]


class Environment:
    """An environment with the wheel and what some of its extras bring."""

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        self.folder = folder
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True)
        (self.own,) = metadata.distributions(path=[str(self.site)])
        self._linked: set[tuple[str, str]] = set()
        self._add(Requirement(f"adaptive-samplers[{','.join(extras)}]"))

    def _add(self, requirement: Requirement) -> None:
        name = canonicalize_name(requirement.name)
        distribution = self.own if name == "adaptive-samplers" else metadata.distribution(name)
        for extra in ["", *requirement.extras]:
            if (name, extra) in self._linked:
                continue
            if not extra and distribution is not self.own:
                self._link(distribution)
            self._linked.add((name, extra))
            for line in distribution.requires or []:
                dependency = Requirement(line)
                if dependency.marker is None or dependency.marker.evaluate({"extra": extra}):
                    self._add(dependency)

    def _link(self, distribution: metadata.Distribution) -> None:
        for file in distribution.files or []:
            if ".." not in file.parts:
                place = self.site / file
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(distribution.locate_file(file))

    def run(self, *command: str, folder: Path, fails: bool = False) -> str:
        """What a command prints that finds this environment's Python first, and nothing of the repository's."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        variables |= {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    def run_code(self, code: str, folder: Path, fails: bool = False) -> str:
        return self.run(str(self.python), "-c", code, folder=folder, fails=fails)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    shutil.copytree(REPOSITORY / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=folder, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Callable[..., Environment]:
    """The environment with these extras, made once."""
    made: dict[tuple[str, ...], Environment] = {}

    def get(*extras: str) -> Environment:
        if extras not in made:
            made[extras] = Environment(tmp_path_factory.mktemp("environment") / "venv", wheel, *extras)
        return made[extras]

    return get


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the files that the documents name: a sampler, a model, and a checkpoint of the reference."""
    place = working_directory(tmp_path_factory.mktemp("documents") / "work").folder
    SamplingNetwork(d_model=8, d_ff=16, n_blocks=1, n_heads=2).save_pretrained(place / TRAINED)
    write_tiny_model(place / "model")
    architecture, config = PUBLISHED
    torch.save(reference_model(architecture, config).state_dict(), place / "sampler_model.bin")
    (place / "model_config_scale.yaml").write_text(yaml.safe_dump(config))
    return place


# The names that Python in a document takes for granted.
GIVEN_SAMPLERS = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

logits = 4 * torch.randn(2, 3, 400)
model = AutoModelForCausalLM.from_pretrained("model")
inputs = AutoTokenizer.from_pretrained("model")("The river", return_tensors="pt")
"""
GIVEN_ARRAYS = """
import sys

scores, values = [[0.1, 0.2, 0.3, 0.4]], [[0, 1, 0, 1]]
answers = ["7", "7", "8", "7"]
k, coverage = [1, 2, 4, 8], [0.31, 0.5, 0.67, 0.81]
judge = lambda comparisons: [0.5 for _ in comparisons]
"""
# Documents whose Python imports the library, and what must hold when it has run.
EXPECTED = {
    "README.md": ["token_ids.shape == (2, 3)"],
    "docs/library.md": ["token_ids.shape == (2, 3)"],
    "docs/hugging_face.md": ["output.shape[1] > inputs['input_ids'].shape[1]"],
    "docs/preferences.md": ["callable(make_preferences)"],
    "docs/selecting_among_samples.md": ["0.81 < law(1000) <= 1", "'torch' not in sys.modules"],
    "docs/tournaments.md": ["len(ratings) == 3"],
    "docs/verbalized_sampling.md": ["callable(parse_verbalized)"],
}
WHOLE = ["README.md", "docs/library.md"]  # of the others only the blocks that import the library


def python_of(document: str) -> list[str]:
    return [
        code
        for language, code in code_blocks(document)
        if language == "python" and (document in WHOLE or "from adaptive_samplers" in code)
    ]


def test_every_document_that_imports_the_library_is_run():
    # The pages on what to add to the project are followed in a copy of it: tests/integration/test_how_to_pages.py.
    pages = [path.name for path in (REPOSITORY / "docs").glob("*.md") if not path.name.startswith("add_")]
    documents = ["README.md", *(f"docs/{page}" for page in pages)]
    assert {document for document in documents if python_of(document)} == EXPECTED.keys()


@pytest.mark.parametrize("document", EXPECTED)
def test_the_python_of_the_documents_runs(document, environment, folder):
    if document in (*WHOLE, "docs/hugging_face.md"):
        given, extras = GIVEN_SAMPLERS, []
    else:  # a page that needs more than `pip install .` names the extra
        given, extras = GIVEN_ARRAYS, NAMED_EXTRAS.findall((REPOSITORY / document).read_text())
    checks = [f"assert {line}, {line!r}" for line in EXPECTED[document]]
    environment(*extras).run_code("\n".join([given, *python_of(document), *checks]), folder)


def test_names_that_others_rely_on(environment, folder):
    # DESIGN.md, section 9, as far as it exists; and the calls in the table of docs/library.md.
    calls = re.findall(r"`(sampler\.[^`]+)`", (REPOSITORY / "docs" / "library.md").read_text().split("\n## ")[0])
    assert len(calls) == 6
    to_the_hub = "sampler.push_to_hub(repo)"
    lines = [f"results[{call!r}] = {call}" for call in calls if call != to_the_hub]
    code = f"""
import torch
from transformers import LogitsProcessor
from adaptive_samplers import AdaptiveSampler
from adaptive_samplers.heuristics import HEURISTICS
from adaptive_samplers.samplers import ARCHITECTURES
assert {{"temperature", "top_k", "top_p", "min_p", "typical"}} <= HEURISTICS.keys()
assert {{"LocalProbabilityTransform", "SimpleDistributionAwareTransform", "SamplingNetwork"}} <= ARCHITECTURES.keys()
sampler = AdaptiveSampler.from_pretrained({TRAINED!r})
logits, folder, results = torch.randn(2, 3, 400), "saved", {{}}
{chr(10).join(lines)}
assert results["sampler.logits(logits)"].shape == (2, 3, 400)
torch.testing.assert_close(
    results["sampler.logits(logits)"], results["sampler.logits(logits, exact=True)"], atol=0.05, rtol=0
)
assert results["sampler.sample(logits, generator=None)"].shape == (2, 3)
assert isinstance(results["sampler.as_logits_processor()"], LogitsProcessor)
assert AdaptiveSampler.from_pretrained("saved").logits(logits).equal(results["sampler.logits(logits)"])
assert callable({to_the_hub.split("(")[0]})
"""
    assert to_the_hub in calls
    environment().run_code(code, folder)


@pytest.mark.parametrize("document", WHOLE)
def test_the_commands_of_the_documents_run(document, environment, folder):
    blocks = [code for language, code in code_blocks(document) if language in ("", "bash", "sh")]
    assert blocks
    # The demo and the tests run elsewhere; here their targets are known to make.
    make = f'make() {{ command make --directory "{REPOSITORY}" --dry-run "$@" > /dev/null; }}'
    for code in blocks:
        environment().run("bash", "-euo", "pipefail", "-c", f"{make}\n{code}", folder=folder)
    if document == "docs/library.md":
        load = "from adaptive_samplers import AdaptiveSampler; AdaptiveSampler.from_pretrained('samplers/imported')"
        environment().run_code(load, folder)


def test_the_config_of_the_documents_is_one(environment, folder):
    blocks = [block for document in WHOLE for block in code_blocks(document)]
    assert {language for language, _ in blocks} <= {"python", "yaml", "", "bash", "sh"}, "each has a way to be run"
    parts = [yaml.safe_load(code) for language, code in blocks if language == "yaml"]
    assert parts
    code = f"""
import json
from pathlib import Path
from snakemake.utils import update_config
from adaptive_samplers.config.load import load_config
config = json.loads({json.dumps(SMOKE)!r})
for part in json.loads({json.dumps(parts)!r}):
    update_config(config, part)
    load_config(config, Path.cwd())
"""
    environment("pipeline").run_code(code, folder)


# Why each module cannot be imported; nothing where it can.
IMPORT_ALL = """
import importlib, json, sys

reasons = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        reasons[name] = str(error)
print(json.dumps(reasons))
"""
# Only where PyTorch has CUDA, which brings it; samplers do without.
WITH_TRITON = {
    "adaptive_samplers.heuristics.window_passes_triton",
    "adaptive_samplers.samplers.passes.triton_network",
    "adaptive_samplers.samplers.passes.triton_passes",
}


def missing(environment: Environment, folder: Path) -> dict[str, str]:
    """The modules of the library that an environment lacks something for, and what they say."""
    files = [file.with_suffix("") for file in environment.own.files if file.suffix == ".py"]
    modules = [".".join(file.parts).removesuffix(".__init__") for file in files]
    command = [str(environment.python), "-c", IMPORT_ALL, json.dumps(modules)]
    return {
        name: reason
        for name, reason in json.loads(environment.run(*command, folder=folder)).items()
        if not (name in WITH_TRITON and reason == "No module named 'triton'")
    }


MISSING = r"([\w.]+) needs the package (\w+), which is not installed: pip install 'adaptive-samplers\[([\w-]+)\]'"
# What each extra, or none, is enough for.
PARTS = {
    "": ["errors", "extras", "heuristics", "import_reference", "randomness", "samplers", "sketch", "verbalized"],
    "preferences": ["preferences", "tables"],
    "labels": ["labels", "tables"],
    "pipeline": [""],
}


def is_in(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


@pytest.mark.parametrize("extra", PARTS)
def test_modules_can_be_imported_or_name_the_extra_that_they_need(extra, environment, folder):
    reasons = missing(environment(*filter(None, [extra])), folder)
    for part in PARTS[extra]:
        package = f"adaptive_samplers.{part}".removesuffix(".")
        assert {name: reason for name, reason in reasons.items() if is_in(name, package)} == {}
    for name, reason in reasons.items():
        found = re.match(MISSING, reason)
        assert found, (name, reason)
        module, package, named = found.groups()
        assert is_in(name, module) and package in EXTRAS[named] and named != extra


def test_a_missing_extra_is_an_import_error_that_names_it(environment, folder):
    def said(code: str) -> str:
        return environment().run_code(code, folder, fails=True).splitlines()[-1]

    message = "adaptive_samplers.{} needs the package {}, which is not installed: pip install 'adaptive-samplers[{}]', "
    preferences = message.format("preferences.dataset", "pandas", "preferences")
    assert preferences in said("from adaptive_samplers.preferences import make_preferences")
    assert message.format("labels.quality", "pandas", "labels") in said("import adaptive_samplers.labels.quality")
    assert message.format("tables", "pandas", "pipeline") in said("import adaptive_samplers.tables")
    # When it is first wanted, too.
    sums = "from adaptive_samplers.labels.verifiers import VERIFIERS; VERIFIERS['math'].check('1/2')"
    module, package, extra = re.search(MISSING, said(sums)).groups()
    assert is_in(module, "adaptive_samplers.labels.verifiers") and package in EXTRAS["labels"] and extra == "labels"


def test_other_imports_are_left_alone(environment, folder):
    code = """
import importlib.util
import adaptive_samplers
assert importlib.util.find_spec("pandas") is None
try:
    import pandas
except ModuleNotFoundError as error:
    assert type(error) is ModuleNotFoundError and error.name == "pandas"
try:
    import adaptive_samplers.tables
except ImportError as error:
    assert error.name == "pandas" and isinstance(error, adaptive_samplers.errors.UserError)
else:
    raise AssertionError
"""
    environment().run_code(code, folder)


@pytest.fixture
def other_copy(tmp_path, monkeypatch) -> Path:
    """A folder before all others on the path in which another version of the library is installed."""
    (tmp_path / "adaptive_samplers").mkdir()
    (tmp_path / "adaptive_samplers" / "__init__.py").write_text("raise RuntimeError('another version')\n")
    (tmp_path / "adaptive_samplers-0.0.1.dist-info").mkdir()
    (tmp_path / "adaptive_samplers-0.0.1.dist-info" / "METADATA").write_text(
        "Name: adaptive-samplers\nVersion: 0.0.1\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_jobs_run_the_library_beside_their_scripts_where_another_is_installed(other_copy):
    done = working_directory(other_copy / "work").run("results/smoke/heuristics.parquet")
    assert done.returncode == 0, done.stdout


def test_where_they_could_not_nothing_starts(other_copy):
    # PYTHONPATH, which jobs in conda's environments and in images do without, stands for the environment of Snakemake.
    done = working_directory(other_copy / "work").run("--dry-run", "--sdm", "conda")
    assert done.returncode == 1
    assert f"with --sdm, jobs would run the library installed in {other_copy}, not" in done.stdout


def test_a_link_to_the_clone_is_no_other_copy(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_copy() is None
    information = tmp_path / "adaptive_samplers-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: adaptive-samplers\nVersion: 0.1.0\n")
    (tmp_path / "adaptive_samplers" / "__pycache__").mkdir(parents=True)
    assert installed_copy() is None
    shutil.rmtree(tmp_path / "adaptive_samplers")
    (tmp_path / "adaptive_samplers").symlink_to(REPOSITORY / "scripts" / "adaptive_samplers")
    assert installed_copy() is None
