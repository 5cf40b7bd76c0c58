"""Whether the params of a rule hold every key that its script reads, also in the functions that it hands them to."""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from adaptive_samplers.config.fields import Section
from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.slices import slice_of_stage, unrelated_slice
from adaptive_samplers.stage import settings_of
from support import REPOSITORY

Keys = tuple[str, ...]


def scripts_of_stages() -> set[tuple[str, str]]:
    """The stages of rules, and the scripts that these run."""
    found = set()
    for path in (REPOSITORY / "rules").glob("*.smk"):
        for rule in re.split(r"^\s*(?:rule|checkpoint) \w*:", path.read_text(), flags=re.MULTILINE)[1:]:
            stage = re.search(r"\*\*stage\(\s*\"(\w+)\"", rule)
            script = re.search(r"\.\./scripts/(\w+\.py)", rule)
            if stage and script:
                found.add((stage[1], script[1]))
    return found


class Reader:
    """The keys of a config that a function reads by attribute, in the places where the config is called a name."""

    def __init__(self, names: dict[str, Any], known: dict[str, Keys]):
        self.names, self.known = names, known
        self.read: set[Keys] = set()

    def keys_of(self, node: ast.expr) -> Keys | None:
        """The keys that lead to what an expression stands for; None for what is no part of the config."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "settings_of":
            return ()
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if isinstance(node, ast.Attribute):
            above = self.keys_of(node.value)
            return None if above is None else (*above, node.attr)
        return None

    def visit(self, function: ast.AST) -> None:
        """Follow the statements of a function, from the first to the last."""
        assigns = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
        for node in sorted(assigns, key=lambda node: node.lineno):
            target = node.targets[0]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            else:
                pairs = [(target, node.value)]
            for name, value in pairs:
                if isinstance(name, ast.Name) and (keys := self.keys_of(value)) is not None:
                    self.known[name.id] = keys
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and (keys := self.keys_of(node)) is not None:
                self.read.add(keys)
            if isinstance(node, ast.Call):
                self.follow(node)

    def follow(self, call: ast.Call) -> None:
        """What a function of the library reads of the part of the config that it is given."""
        given = [(place, self.keys_of(value)) for place, value in enumerate(call.args)]
        given += [(word.arg, self.keys_of(word.value)) for word in call.keywords]
        given = [(place, keys) for place, keys in given if keys is not None]
        function = self.function_of(call.func)
        if not given or function is None:
            return
        function = inspect.unwrap(function)
        source = textwrap.dedent(inspect.getsource(function))
        parameters = list(inspect.signature(function).parameters)
        known = {parameters[place] if isinstance(place, int) else place: keys for place, keys in given}
        own = getattr(function, "__func__", function).__globals__
        reader = Reader(own, known)
        reader.visit(ast.parse(source))
        self.read |= reader.read

    def function_of(self, node: ast.expr) -> Callable[..., Any] | None:
        """The function or class method of the library that is called."""
        if isinstance(node, ast.Name):
            found = self.names.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = getattr(self.names.get(node.value.id), node.attr, None)
        else:
            return None
        is_own = inspect.isroutine(found) and (found.__module__ or "").startswith("adaptive_samplers")
        return found if is_own else None


def imported(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """What a script takes from the library, by name."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("adaptive_samplers"):
            module = importlib.import_module(node.module)
            yield from ((name.asname or name.name, getattr(module, name.name)) for name in node.names)


@pytest.mark.parametrize(("stage", "script"), sorted(scripts_of_stages()))
def test_a_script_reads_what_its_rule_holds(stage, script, good_config, config_folder):
    tree = ast.parse((REPOSITORY / "scripts" / script).read_text())
    reader = Reader(dict(imported(tree)), {})
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            reader.visit(node)
    config = load_config(good_config, config_folder)
    params = SimpleNamespace(settings=slice_of_stage(config, stage), unrelated=unrelated_slice(config, stage))
    settings = settings_of(SimpleNamespace(params=params))
    for keys in sorted(reader.read):
        error = missing(settings, keys)
        assert error is None, f"{script} reads {'.'.join(keys)}: {error}"


def missing(value: Any, keys: Keys) -> str | None:
    """What is wrong with reading these keys of a section; None where nothing is."""
    for key in keys:
        if not isinstance(value, Section) or (key not in type(value).model_fields and hasattr(type(value), key)):
            return None
        try:
            value = getattr(value, key)
        except AttributeError as error:
            return str(error)
    return None


def test_a_key_that_a_library_function_reads_is_found():
    # The script reads the first itself, and the second in a class method that it hands the config to.
    tree = ast.parse((REPOSITORY / "scripts" / "generate_candidates.py").read_text())
    reader = Reader(dict(imported(tree)), {})
    reader.visit(tree)
    assert ("generation", "shards") in reader.read
    assert ("generation", "stop") in reader.read
