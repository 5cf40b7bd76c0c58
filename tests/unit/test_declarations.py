"""What is declared of architectures and training objectives is complete, and agrees with the code and the config."""

import inspect
import subprocess
import sys

import pytest

from adaptive_samplers.config.fields import Section, key
from adaptive_samplers.config.model.samplers import LearningRates, Samplers
from adaptive_samplers.config.model.training import Training
from adaptive_samplers.errors import UserError
from adaptive_samplers.figures import style
from adaptive_samplers.samplers import ARCHITECTURES, Options, architecture
from adaptive_samplers.samplers.passes.knots import LARGEST_OUTPUT
from adaptive_samplers.training.objectives import OBJECTIVES, data, objective
from support import REPOSITORY


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_classes_take_what_is_declared(name):
    sampler = ARCHITECTURES[name]()
    defaults = ARCHITECTURES[name].options().model_dump()
    assert type(sampler).__name__ == name and sampler.config.items() >= defaults.items()
    colors = (style.BLUE, style.GREEN, style.VERMILION, style.PURPLE, style.ORANGE, style.SKY, style.BLACK, style.GRAY)
    assert ARCHITECTURES[name].color in colors


GOOD = {"module": "adaptive_samplers.samplers.local", "learning_rate": 0.01, "color": style.GRAY, "marker": "8"}


class Tiny(Options):
    """Sees nothing."""

    width: int = key("Width.", default=1, ge=1, le=8)


class Silent(Options):
    width: int = key("Width.", default=1, ge=1, le=8)


class Endless(Options):
    """Sees nothing."""

    width: int = key("Width.", default=1, ge=1)
    depth: int = key("Depth.", le=8)


@pytest.mark.parametrize(
    ("options", "changes", "words"),
    [
        (Silent, {}, "lacks a docstring"),
        (Endless, {}, "lacks limits and a default of width, limits and a default of depth"),
        (Tiny, {"module": "adaptive_samplers.samplers.nowhere"}, "lacks the module .*nowhere"),
        (Tiny, {"learning_rate": 0}, "lacks a learning rate"),
        (Tiny, {"color": "red"}, "lacks a color"),
        (Tiny, {"marker": ""}, "lacks a marker"),
        (Tiny, {"color": style.BLUE, "marker": "o"}, "lacks a color and marker of its own"),
        (
            type("SamplingNetwork", (Tiny,), {"__doc__": "Another.", "__module__": __name__}),
            {},
            "lacks a name of its own",
        ),
    ],
)
def test_what_an_architecture_lacks_is_named_when_it_is_declared(options, changes, words):
    known = set(ARCHITECTURES)
    with pytest.raises(TypeError, match=f"architecture '{options.__name__}' {words}"):
        architecture(**{**GOOD, **changes})(options)
    with pytest.raises(TypeError, match="'color'"):
        architecture(**{name: value for name, value in GOOD.items() if name != "color"})
    assert set(ARCHITECTURES) == known


def test_a_class_with_other_arguments_is_refused(monkeypatch):
    other = type("LocalProbabilityTransform", (Tiny,), {"__doc__": "Another.", "__module__": __name__})
    monkeypatch.delitem(ARCHITECTURES, "LocalProbabilityTransform")
    architecture(**GOOD)(other)
    with pytest.raises(TypeError, match=r"takes {'hidden_dims': 64}, and declares \['width'\]"):
        ARCHITECTURES["LocalProbabilityTransform"]()


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_problems_of_options_together_are_the_declarations():
    network = ARCHITECTURES["SamplingNetwork"]
    assert [name for name, _ in network.options(d_model=30).problems()] == ["d_model"]
    with pytest.raises(UserError, match="d_model: 30 is not divisible by n_heads, 4"):
        network.sampler_class(d_model=30)
    assert network.arguments["multiplier"].at_most == LARGEST_OUTPUT
    # Saved networks may be smaller than a config may ask for.
    assert len(network(d_model=1, n_heads=1, n_blocks=0).blocks) == 0


def test_configs_take_what_is_declared():
    assert set(Samplers.model_fields) == set(LearningRates.model_fields) == set(ARCHITECTURES)
    for name in OBJECTIVES:
        chosen = Training(objectives=[{"kind": name}]).objectives[0]
        assert chosen.model_dump() == {"kind": name, **OBJECTIVES[name].options().model_dump()}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_have_a_loss_and_data(name):
    declared = OBJECTIVES[name]
    assert inspect.signature(declared()).parameters.keys() == {"predict", "batch"}
    assert callable(declared.data.reader.load())


LOSS = "adaptive_samplers.training.objectives.registry"  # a module that there is


class Silence(Section):
    gamma: float = key("Weight.", default=1.0, ge=0)


class Demanding(Section):
    """Learns nothing."""

    gamma: float = key("Weight.", ge=0)


class Plain(Section):
    """Learns nothing."""


@pytest.mark.parametrize(
    ("options", "module", "needs", "words"),
    [
        (Silence, LOSS, "targets", "'registry' lacks a docstring"),
        (Demanding, LOSS, "targets", "'registry' lacks a default of gamma"),
        (Plain, f"{LOSS}s", "targets", "'registrys' lacks the module"),
        (Plain, LOSS, "dreams", r"'registry' lacks data that there is \(targets.*\), not 'dreams'"),
        (Plain, LOSS.replace("registry", "imitation"), "targets", "'imitation' lacks a name of its own"),
    ],
)
def test_what_an_objective_lacks_is_named_when_it_is_declared(options, module, needs, words):
    known = set(OBJECTIVES)
    with pytest.raises(TypeError, match=f"objective {words}"):
        objective(module, needs=needs)(options)
    with pytest.raises(TypeError, match="data 'dreams' lacks"):
        data("dreams", "What is dreamt.", reader="training.dreams:read")
    assert set(OBJECTIVES) == known


def test_declarations_need_no_torch():
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY / 'scripts')!r})\n"
    code += "from adaptive_samplers.samplers import ARCHITECTURES\n"
    code += "from adaptive_samplers.training.objectives import OBJECTIVES\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'jsonschema')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
