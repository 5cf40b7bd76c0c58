"""The checks that a schema cannot express; they look only at values with which nothing is wrong so far."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adaptive_samplers.config.judges import judge_name
from adaptive_samplers.config.problems import KeyPath, Problems, dotted
from adaptive_samplers.config.schema import config_schema, is_type
from adaptive_samplers.config.weights import weight_name, weight_names
from adaptive_samplers.config.words import join, show, suggest, type_advice, wrong_type
from adaptive_samplers.heuristics import HEURISTICS, Numbers, Pipeline, pipeline_name
from adaptive_samplers.heuristics.pipelines import (
    configured_pipeline,
    expand_heuristics,
    grid_pipelines,
    official_pipelines,
    verbalized_pipeline,
)
from adaptive_samplers.heuristics.registry import LEARNED, Heuristic
from adaptive_samplers.policies.command import REQUIRED_WORDS, variable
from adaptive_samplers.policies.sources import policy_source

QUALITY: KeyPath = ("labels", "quality")
JUDGE: KeyPath = (*QUALITY, "judge")
TRAINED_KIND = "feature_reward"  # the judge that the DAG trains; it has no name of its own
COMPARING_KINDS = ("pairwise", "endpoint")  # judges that are asked a question about two answers, and give no rewards
# Said again here, for not every environment that reads the config has what verifiers import; a test compares.
VERIFIERS = ("code", "exact", "instructions", "math", "numeric", "reasoning_gym", "regex")


def _check_split(config: dict, problems: Problems, base_folder: Path) -> None:
    if problems.clean("prompts", "split"):
        shares = config["prompts"]["split"]
        total = math.fsum(shares.values())
        if abs(total - 1) > 1e-6:
            listed = join([f"{name} {show(share)}" for name, share in shares.items()])
            problems.add(("prompts", "split"), f"the shares {listed} sum to {total:g}; allowed: shares that sum to 1")


def _check_files(config: dict, problems: Problems, base_folder: Path) -> None:
    wanted: list[tuple[KeyPath, str]] = []
    if problems.clean("prompts", "sources"):
        sources = config["prompts"]["sources"]
        wanted += [(("prompts", "sources", i, "path"), source["path"]) for i, source in enumerate(sources)]
    for place in _judges(config, problems):
        if _at(config, place)["kind"] == "feature_reward":
            wanted.append(((*place, "pairs"), _at(config, place)["pairs"]))
    if problems.clean("labels", "overlap", "corpus"):
        corpus = config["labels"]["overlap"]["corpus"]
        wanted += [(("labels", "overlap", "corpus", i), name) for i, name in enumerate(corpus)]
    for path, name in wanted:
        _check_exists(path, name, base_folder, Path.is_file, "file", problems)


def _check_verifiers(config: dict, problems: Problems, base_folder: Path) -> None:
    key: KeyPath = ("labels", "correctness", "verifiers")
    if not problems.clean(*key):
        return
    names = list(VERIFIERS)
    for i, own in enumerate(_at(config, key)):
        _check_exists((*key, i, "path"), own["path"], base_folder, Path.is_file, "file", problems)
        if own["name"] in names:
            taken = "the name of another verifier; allowed: a name of its own"
            problems.add((*key, i, "name"), f"'{own['name']}' is {taken}")
        names.append(own["name"])
    if problems.clean("prompts", "sources"):
        for i, source in enumerate(config["prompts"]["sources"]):
            name = source["verifier"]
            if name is not None and name not in names:
                message = f"'{name}' is not known; allowed: {join(names, 'or')}{suggest(name, names)}"
                problems.add(("prompts", "sources", i, "verifier"), message)


def _check_models(config: dict, problems: Problems, base_folder: Path) -> None:
    places: list[KeyPath] = [("model",), ("labels", "embedder"), *_judges(config, problems)]
    models = [(place, _at(config, place)) for place in places if problems.clean(*place)]
    models = [(place, model) for place, model in models if "source" in model]
    for place, model in models:
        _check_source(model["source"], (*place, "source"), problems, base_folder)
    if problems.clean("policy_samples", "policies") and problems.clean("model"):
        for i, policy in enumerate(config["policy_samples"]["policies"]):
            policy_place = ("policy_samples", "policies", i)
            for part in ("source", "adapter"):
                if policy[part] is not None:
                    _check_source(policy[part], (*policy_place, part), problems, base_folder)
            models.append((policy_place, {"name": policy["name"], "source": policy_source(policy, config["model"])}))
    first_place: dict[str, tuple[KeyPath, dict]] = {}
    for place, model in models:
        first, other = first_place.setdefault(model["name"], (place, model))
        if other["source"] != model["source"]:
            problems.add(
                (*place, "name"),
                f"'{model['name']}' is the name of {dotted(first)} too, but another model; allowed: a name of its own",
            )


def _check_source(source: dict, place: KeyPath, problems: Problems, base_folder: Path) -> None:
    path = (*place, "path")
    if source["kind"] == "folder":
        _check_exists(path, source["path"], base_folder, Path.is_dir, "folder", problems)
    elif source["kind"] == "package":
        parts = source["path"].split("/")
        if ".." in parts or source["path"].startswith("/"):
            problems.add(path, f"'{source['path']}' leaves the package; allowed: a path inside the wheel")


def _check_policy_samples(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("policy_samples"):
        return
    policies = config["policy_samples"]["policies"]
    names = [policy["name"] for policy in policies]
    for i, name in enumerate(names):
        if name in names[:i]:
            message = f"'{name}' is the name of another policy; allowed: each policy once"
            problems.add(("policy_samples", "policies", i, "name"), message)
    _check_steps(config["policy_samples"]["sampling"], ("policy_samples", "sampling"), problems, base_folder)


def _check_iteration(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("iteration"):
        return
    iteration = config["iteration"]
    if problems.clean("policy_samples", "policies") and iteration["policy"] is not None:
        names = [policy["name"] for policy in config["policy_samples"]["policies"]]
        if iteration["policy"] not in names:
            allowed = f"{join(names, 'or')}, of policy_samples.policies, or null" if names else "null, the base model"
            hint = suggest(iteration["policy"], names)
            problems.add(("iteration", "policy"), f"'{iteration['policy']}' is not known; allowed: {allowed}{hint}")
    for i, name in enumerate(iteration["files"]):
        _check_exists(("iteration", "files", i), name, base_folder, Path.is_file, "file", problems)
    if problems.clean("preferences"):
        _check_test_split(config, ("iteration", "splits"), problems)
    if iteration["command"] is not None:
        for name in REQUIRED_WORDS:
            if f"{{{name}}}" not in iteration["command"] and variable(name) not in iteration["command"]:
                message = (
                    f"lacks {{{name}}}; allowed: a command with {join([f'{{{word}}}' for word in REQUIRED_WORDS])}"
                )
                problems.add(("iteration", "command"), message)


def _judges(config: dict, problems: Problems) -> list[KeyPath]:
    """The places of the judges with which nothing is wrong so far."""
    others = _at(config, (*QUALITY, "others")) if problems.clean(*QUALITY, "others") else []
    places: list[KeyPath] = [JUDGE, *((*QUALITY, "others", i) for i in range(len(others)))]
    return [place for place in places if problems.clean(*place)]


# What a request to an endpoint holds by other keys, or what its reply could not be read with.
_OWN_REQUEST = {
    "model": "key `model`",
    "messages": "key `template`",
    "top_logprobs": "key `top_logprobs`",
    "logprobs": "key `top_logprobs`",
    "stream": "way in which replies are read",
    "n": "way in which replies are read",
}


def _check_judge(config: dict, problems: Problems, base_folder: Path) -> None:
    names: dict[str, KeyPath] = {}
    for place in _judges(config, problems):
        judge = _at(config, place)
        if judge["kind"] in COMPARING_KINDS:
            _check_question(judge, place, problems)
        if judge["kind"] == "likelihood" and not any(judge["weights"].values()):
            allowed = f"allowed: at least one of {join(judge['weights'], 'or')} that is not 0"
            problems.add((*place, "weights"), f"all weights are 0; {allowed}")
        for key in judge.get("request", {}):
            if key in _OWN_REQUEST:
                message = f"follows from the {_OWN_REQUEST[key]}; allowed: what else a request may hold"
                problems.add((*place, "request", key), message)
        if judge["kind"] != TRAINED_KIND and judge_name(judge) == TRAINED_KIND:
            problems.add((*place, "name"), f"'{TRAINED_KIND}' is the embedded judge's name; allowed: another one")
            continue
        first = names.setdefault(judge_name(judge), place)
        if first != place:
            key = "name" if "name" in judge else "kind"
            message = f"'{judge_name(judge)}' is the name of {dotted(first)} too; allowed: a name of its own"
            problems.add((*place, key), message)
    if problems.clean(*QUALITY) and len(names) == 1 and _at(config, QUALITY)["combine"] != "first":
        message = "'mean' has no effect with one judge; allowed: first, or more judges in labels.quality.others"
        problems.add((*QUALITY, "combine"), message)


def _check_question(judge: dict, place: KeyPath, problems: Problems) -> None:
    if len(judge["labels"]) != 2:
        message = f"has {len(judge['labels'])} items; allowed: two, for the answer shown first and for the second"
        problems.add((*place, "labels"), message)
    needed = ["{prompt}", "{first_answer}", "{second_answer}"]
    if missing := [name for name in needed if name not in judge["template"]]:
        problems.add((*place, "template"), f"lacks {join(missing)}; allowed: text with {join(needed)}")


def _check_exists(
    path: KeyPath, name: str, base_folder: Path, exists: Callable[[Path], bool], kind: str, problems: Problems
) -> None:
    place = base_folder / name
    if exists(place):
        return
    if place.exists():
        problems.add(path, f"'{name}' is not a {kind}; allowed: a {kind}")
        return
    near = ""
    if place.parent.is_dir():
        near = suggest(place.name, sorted(entry.name for entry in place.parent.iterdir() if exists(entry)))
    problems.add(path, f"'{name}' does not exist; allowed: a {kind}, relative to {base_folder}{near}")


def _at(config: Any, path: Iterable[str | int]) -> Any:
    for key in path:
        config = config[key]
    return config


def _check_heuristics(config: dict, problems: Problems, base_folder: Path) -> None:
    if not isinstance(config.get("heuristics"), dict):
        return
    chains = [
        *_grid_chains(config["heuristics"].get("grid"), problems),
        *_pipeline_chains(("heuristics", "pipelines"), config["heuristics"].get("pipelines"), problems, base_folder),
    ]
    _check_each_once(chains, problems)
    _check_verbalized(config["heuristics"].get("verbalized"), problems, base_folder)
    official = _official_chains(config["heuristics"].get("official"), problems, base_folder)
    _check_each_once(official, problems)
    if problems.clean("heuristics"):
        count = len({chain for _, chain in [*chains, *official]})
        if count < 2 and not (count == 1 and _meets_other_seeds(config, problems)):
            problems.add(("heuristics",), f"holds {count} in all; allowed: at least 2, for a tournament needs two")
        elif problems.clean("scoring", "top_k"):
            for i, kept in enumerate(config["scoring"]["top_k"]):
                if kept > count:
                    problems.add(
                        ("scoring", "top_k", i),
                        f"{kept} is more than there are answers to a prompt with one seed;"
                        f" allowed: at most {count}, the number of heuristics",
                    )


def _check_verbalized(entries: Any, problems: Problems, base_folder: Path) -> None:
    """Types the settings on the way; the chains train no sampler and are no rivals of those that do."""
    chains = []
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        path: KeyPath = ("heuristics", "verbalized", index)
        if not problems.clean(*path):
            continue
        _check_steps(entry["pipeline"], (*path, "pipeline"), problems, base_folder)
        if missing := [name for name in ("{prompt}", "{answers}") if name not in entry["template"]]:
            problems.add((*path, "template"), f"lacks {join(missing)}; allowed: text with {{prompt}} and {{answers}}")
        if problems.clean(*path):
            chains.append((path, verbalized_pipeline(entry)))
    _check_each_once(chains, problems)


def _meets_other_seeds(config: dict, problems: Problems) -> bool:
    """Whether an answer meets those under other seeds, so that one heuristic is enough for a tournament."""
    place: KeyPath = ("labels", "quality", "tournament")
    if not (problems.clean(*place) and problems.clean("seeds")):
        return False
    return _at(config, place).get("group") == "prompt" and len(config["seeds"]) > 1


def _check_learnability(config: dict, problems: Problems, base_folder: Path) -> None:
    key = ("evaluation", "learnability", "heuristics")
    if not problems.clean(*key):
        return
    chains = _pipeline_chains(key, _at(config, key), problems, base_folder)
    for path, chain in chains:
        if any(step.name == LEARNED for step in chain):
            problems.add(path, "holds a learned sampler; allowed: heuristics")
    _check_each_once(chains, problems)


def _check_each_once(chains: Iterable[tuple[KeyPath, Pipeline]], problems: Problems) -> None:
    first_place: dict[Pipeline, KeyPath] = {}
    for path, chain in chains:
        if chain in first_place:
            first = first_place[chain]
            where = "in the same entry" if first == path else f"in {dotted(first)}"
            problems.add(path, f"{pipeline_name(chain)} is already listed {where}; allowed: each heuristic once")
        first_place.setdefault(chain, path)


def _grid_chains(grid: Any, problems: Problems) -> list[tuple[KeyPath, Pipeline]]:
    """The chains of a grid with the entries that they come from; checks settings on the way and types them."""
    chains = []
    for index, block in enumerate(grid if isinstance(grid, list) else []):
        path: KeyPath = ("heuristics", "grid", index)
        if not problems.clean(*path):
            continue
        _check_temperatures(block, path, problems)
        family, values = block["family"], block.get("values")
        if family not in HEURISTICS:
            message = f"{show(family)} is not known; allowed: {join(HEURISTICS, 'or')}{suggest(family, HEURISTICS)}"
            problems.add((*path, "family"), message)
        elif family == "temperature":
            if values is not None:
                message = "the family 'temperature' takes no values; allowed: its temperatures, in `temperatures`"
                problems.add((*path, "values"), message)
        elif not HEURISTICS[family].parameters:
            if values is not None:
                problems.add((*path, "values"), f"the family '{family}' takes no values; leave them out")
        elif values is None:
            message = f"is missing; the family '{family}' needs a list, each {_allowed_setting(HEURISTICS[family])}"
            problems.add((*path, "values"), message)
        else:
            block["values"] = [
                _check_setting(family, value, (*path, "values", i), problems) for i, value in enumerate(values)
            ]
        if problems.clean(*path):
            chains += [(path, chain) for chain in grid_pipelines(block)]
    return chains


def _pipeline_chains(
    key: KeyPath, pipelines: Any, problems: Problems, base_folder: Path
) -> list[tuple[KeyPath, Pipeline]]:
    """The chains of explicit pipelines with their places; checks settings on the way and types them."""
    chains = []
    for index, steps in enumerate(pipelines if isinstance(pipelines, list) else []):
        path = (*key, index)
        if not problems.clean(*path):
            continue
        _check_steps(steps, path, problems, base_folder)
        if problems.clean(*path):
            chains.append((path, configured_pipeline(steps)))
    return chains


def _official_chains(official: Any, problems: Problems, base_folder: Path) -> list[tuple[KeyPath, Pipeline]]:
    """The chains of the model's own defaults with their place; checks settings on the way and types them."""
    path: KeyPath = ("heuristics", "official")
    if not isinstance(official, dict) or not problems.clean(*path):
        return []
    _check_temperatures(official, path, problems)
    _check_steps(official["steps"], (*path, "steps"), problems, base_folder)
    return [(path, chain) for chain in official_pipelines(official)] if problems.clean(*path) else []


def _check_temperatures(block: dict, path: KeyPath, problems: Problems) -> None:
    block["temperatures"] = [
        _check_setting("temperature", value, (*path, "temperatures", i), problems)
        for i, value in enumerate(block["temperatures"])
    ]


def _check_steps(steps: list[dict], path: KeyPath, problems: Problems, base_folder: Path) -> None:
    for i, step in enumerate(steps):
        ((name, setting),) = step.items()
        place = (*path, i, str(name))
        if name in HEURISTICS:
            step[name] = _check_setting(name, setting, place, problems)
        elif name != LEARNED:
            known = [*HEURISTICS, LEARNED]
            problems.add(place, f"unknown processor; allowed: {join(known, 'or')}{suggest(name, known)}")
        elif not isinstance(setting, str):
            problems.add(place, f"{wrong_type(setting, {})}; allowed: the folder of a saved sampler")
        else:
            kind = "folder with a saved sampler's config.json"
            _check_exists(place, setting, base_folder, _is_saved_sampler, kind, problems)


def _is_saved_sampler(place: Path) -> bool:
    return (place / "config.json").is_file()


def _check_setting(family: str, setting: Any, path: KeyPath, problems: Problems) -> Any:
    """The setting of a family with its numbers typed; what is wrong with it is added to the problems."""
    parameters = HEURISTICS[family].parameters
    if len(parameters) == 1:
        ((name, numbers),) = parameters.items()
        return _check_number(family, name, setting, numbers, path, problems)
    if not parameters:
        if setting is not None:
            problems.add(path, f"{family} takes no parameters; allowed: {family}: null")
        return None
    if not isinstance(setting, Mapping):
        allowed = _allowed_setting(HEURISTICS[family])
        problems.add(path, f"{wrong_type(setting, {})}; {family} has several parameters; allowed: {allowed}")
        return setting
    for key in setting:
        if key not in parameters:
            message = f"unknown parameter of {family}; allowed: {join(parameters)}{suggest(key, parameters)}"
            problems.add((*path, str(key)), message)
    for name, numbers in parameters.items():
        if name not in setting:
            problems.add((*path, name), f"is missing; {family} needs it; allowed: {numbers}")
    return {
        name: _check_number(family, name, value, parameters[name], (*path, name), problems)
        for name, value in setting.items()
        if name in parameters
    }


def _check_number(family: str, name: str, value: Any, numbers: Numbers, path: KeyPath, problems: Problems) -> Any:
    kind = {"type": "number"}
    if not is_type(value, ["number"]):
        advice = type_advice(value, kind)
        problems.add(path, f"{wrong_type(value, kind)}; allowed as {family}'s {name}: {numbers}{advice}")
    elif value not in numbers:
        problems.add(path, f"{show(value)} is out of range for {family}'s {name}; allowed: {numbers}")
    else:
        return numbers.typed(value)
    return value


def _allowed_setting(heuristic: Heuristic) -> str:
    """What a family's setting may be: `p: a number above 0 and at most 1`, or a map of several."""
    words = [f"{name}: {numbers}" for name, numbers in heuristic.parameters.items()]
    return words[0] if len(words) == 1 else f"a map with {join(words)}"


MOST_WEIGHTINGS = 100


def _check_scoring(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("scoring", "weights"):
        return
    if problems.clean("scoring", "grid") and problems.clean("scoring", "pareto"):
        _check_weightings(config, problems)
    first_place: dict[str, int] = {}
    one_seed = problems.clean("seeds") and len(config["seeds"]) == 1
    for i, weights in enumerate(config["scoring"]["weights"]):
        path: KeyPath = ("scoring", "weights", i)
        name = weight_name(weights)
        if not any(weights.values()):
            problems.add(path, f"all weights are 0; allowed: at least one of {join(weights, 'or')} above 0")
        elif name in first_place:
            first = dotted((*path[:2], first_place[name]))
            problems.add(path, f"{name} is already listed in {first}; allowed: each weighting once")
        elif one_seed and weights["diversity"] > 0:
            problems.add(
                (*path, "diversity"),
                f"{show(weights['diversity'])} has no effect with one seed, for diversity is measured across seeds;"
                " allowed: 0, or at least two seeds",
            )
        first_place.setdefault(name, i)


def _check_weightings(config: dict, problems: Problems) -> None:
    """Of all that select answers together: that there are some, not too many, and that each can have an effect."""
    scoring, names = config["scoring"], weight_names(config)
    if not names:
        problems.add(("scoring", "weights"), "is empty; allowed: at least one weighting here, by grid or by pareto")
    elif len(names) > MOST_WEIGHTINGS:
        samplers = f"each trains {len(config['samplers'])} samplers for each top_k"
        message = f"makes {len(names)} weightings, and {samplers}; allowed: at most {MOST_WEIGHTINGS} in all"
        problems.add(("scoring", "grid"), message)
    if problems.clean("seeds") and len(config["seeds"]) == 1:
        reason = "with one seed, for diversity is measured across seeds; allowed: {}, or at least two seeds"
        if any(scoring["grid"]["diversity"]):
            shown = join([show(weight) for weight in scoring["grid"]["diversity"]])
            problems.add(("scoring", "grid", "diversity"), f"{shown} has no effect {reason.format('an empty list')}")
        if scoring["pareto"]:
            problems.add(("scoring", "pareto"), f"true has no effect {reason.format('false')}")


def _check_objectives(config: dict, problems: Problems, base_folder: Path) -> None:
    if not (problems.clean("evaluation", "objectives") and problems.clean("scoring", "diversity_measure")):
        return
    objectives = config["evaluation"]["objectives"]
    for needed, why in (
        ("quality", "the ranking is made of it"),
        (config["scoring"]["diversity_measure"], "it is scoring.diversity_measure, and quality is plotted against it"),
    ):
        if needed not in objectives:
            problems.add(("evaluation", "objectives"), f"lacks '{needed}': {why}; add it")


def _check_samplers(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("samplers"):
        return
    samplers = config["samplers"]
    if not any(options is not None for options in samplers.values()):
        known = join(config_schema()["properties"]["samplers"]["properties"], "or")
        problems.add(("samplers",), f"names no architecture to train; allowed: at least one of {known}")
    network = samplers.get("SamplingNetwork")
    if network is not None and network["d_model"] % network["n_heads"]:
        problems.add(
            ("samplers", "SamplingNetwork", "d_model"),
            f"{network['d_model']} is not divisible by n_heads, {network['n_heads']}; allowed: a multiple of n_heads",
        )


# Arguments of SGLang's server that follow from other keys, or that would open it to others.
_OWN_ARGUMENTS = (
    *(
        "--model-path",
        "--model",
        "--host",
        "--port",
        "--api-key",
        "--admin-api-key",
        "--tp-size",
        "--tensor-parallel-size",
    ),
    *("--dp-size", "--data-parallel-size", "--dtype", "--trust-remote-code", "--weight-version", "--config"),
)


def _check_serving(config: dict, problems: Problems, base_folder: Path) -> None:
    users: list[KeyPath] = [("generation",), *_judges(config, problems)]
    for user in users:
        key = (*user, "sglang", "arguments")
        # Not every kind of judge has servers.
        if problems.clean(*key) and "sglang" in _at(config, user):
            for i, argument in enumerate(_at(config, key)):
                name = argument.split("=")[0].strip().partition(" ")[0]
                if name in _OWN_ARGUMENTS:
                    message = f"'{name}' follows from other keys; allowed: other arguments of SGLang's server"
                    problems.add((*key, i), message)


def _check_training(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("training", "steps"):
        return
    training = config["training"]
    for key in ("warmup_steps", "evaluate_every"):
        if problems.clean("training", key) and training[key] > training["steps"]:
            problems.add(
                ("training", key),
                f"{training[key]} is more than training.steps, {training['steps']}; allowed: at most training.steps",
            )


def _check_overlap(config: dict, problems: Problems, base_folder: Path) -> None:
    place = ("labels", "overlap")
    if not problems.clean(*place) or not config["labels"]["overlap"]["enabled"]:
        return
    overlap = config["labels"]["overlap"]
    if overlap["kind"] == "local":
        if not overlap["corpus"]:
            problems.add(
                (*place, "corpus"),
                "is empty while labels.overlap.enabled is true; allowed: at least one file, or enabled: false",
            )
        return
    server = overlap["infinigram"]
    if server["index"] is None:
        problems.add(
            (*place, "infinigram", "index"),
            "is null while labels.overlap.kind is infinigram; allowed: the name of an index that the server has",
        )
    if server["tokenizer"] is not None:
        key = (*place, "infinigram", "tokenizer")
        _check_exists(key, server["tokenizer"], base_folder, Path.is_dir, "folder", problems)
    if urlsplit(server["url"]).scheme not in ("http", "https"):
        problems.add((*place, "infinigram", "url"), f"'{server['url']}'; allowed: an address with http:// or https://")


def _check_preferences(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("preferences"):
        return
    preferences = config["preferences"]
    files: KeyPath = ("preferences", "decontamination", "files")
    for i, name in enumerate(_at(config, files)):
        _check_exists((*files, i), name, base_folder, Path.is_file, "file", problems)
    _check_test_split(config, ("preferences", "splits"), problems)
    if problems.clean(*QUALITY) and (without := _without_rewards(_at(config, QUALITY))):
        reason = f"while {without}; allowed:"
        tournament = config["labels"]["quality"]["tournament"]
        if preferences["group"] == "prompt" and tournament.get("group") != "prompt":
            problems.add(
                ("preferences", "group"), f"is prompt {reason} seed, or labels.quality.tournament.group: prompt too"
            )
        if preferences["score"] == "reward":
            problems.add(("preferences", "score"), f"is reward {reason} rating or auto")
    if problems.clean("heuristics") and preferences["heuristics"] is not None:
        _check_preferred_heuristics(config, problems)


def _check_test_split(config: dict, splits: KeyPath, problems: Problems) -> None:
    if "test" in _at(config, splits) and config["preferences"]["decontamination"]["test_split"]:
        problems.add(
            splits,
            "holds test, of which preferences.decontamination.test_split leaves nothing; allowed: other splits, or "
            "test_split: false",
        )


def _without_rewards(quality: Mapping[str, Any]) -> str | None:
    """Why the table of quality has no rewards; None where it has them."""
    if quality["combine"] == "mean":
        return "labels.quality.combine is mean, which gives no rewards"
    if quality["judge"]["kind"] in COMPARING_KINDS:
        return "the judge compares answers and gives no rewards"
    return None


def _check_preferred_heuristics(config: dict, problems: Problems) -> None:
    heuristics = config["heuristics"]
    names = ("grid", "pipelines", "official", "verbalized")
    rows = expand_heuristics(*(heuristics[name] for name in names))
    key: KeyPath = ("preferences", "heuristics")
    known = list(dict.fromkeys(row[column] for column in ("family", "name") for row in rows))
    wanted = config["preferences"]["heuristics"]
    for i, name in enumerate(wanted):
        if name not in known:
            message = f"'{name}' is neither a heuristic's name nor a family; allowed: {join(known, 'or')}"
            problems.add((*key, i), f"{message}{suggest(name, known)}")
    chosen = [row for row in rows if row["name"] in wanted or row["family"] in wanted]
    if len(chosen) == 1 and config["preferences"]["group"] == "seed":
        problems.add(
            ("preferences", "group"),
            "is seed while one heuristic takes part, so that no two answers meet; allowed: prompt, or more heuristics",
        )


def _check_repeated_sampling(config: dict, problems: Problems, base_folder: Path) -> None:
    key: KeyPath = ("evaluation", "repeated_sampling", "enabled")
    if problems.clean(*key) and problems.clean("seeds") and _at(config, key) and len(config["seeds"]) == 1:
        reason = "with one seed there is one sample of each prompt, and nothing to select among"
        problems.add(key, f"true has no effect: {reason}; allowed: false, or at least two seeds")


def _check_budgets(config: dict, problems: Problems, base_folder: Path) -> None:
    place = ("generation", "adaptive")
    if not problems.clean(*place) or not problems.clean("seeds") or not config["generation"]["adaptive"]["enabled"]:
        return
    adaptive, seeds = config["generation"]["adaptive"], len(config["seeds"])
    if problems.clean(*QUALITY):
        quality = _at(config, QUALITY)
        if quality["others"]:
            problems.add((*QUALITY, "others"), "is not empty while generation.adaptive is enabled; allowed: one judge")
        if quality["tournament"].get("group") == "prompt":
            message = "is prompt while generation.adaptive rates the seeds of two rounds apart; allowed: seed"
            problems.add((*QUALITY, "tournament", "group"), message)
    first = adaptive["first_seeds"]
    if first >= seeds:
        problems.add(
            (*place, "first_seeds"),
            f"{first} leaves none of the {seeds} seeds to allocate; allowed: fewer than there are seeds",
        )
    elif adaptive["budget"] * seeds <= first:
        problems.add(
            (*place, "budget"),
            f"{show(adaptive['budget'])} of {seeds} seeds is spent in the first round, which takes {first}; allowed: "
            f"above {first / seeds:g}, fewer first_seeds, or more seeds",
        )
    for i, weights in enumerate(adaptive["weights"]):
        path: KeyPath = (*place, "weights", i)
        if not any(weights.values()):
            problems.add(path, f"all weights are 0; allowed: at least one of {join(weights, 'or')} above 0")
        elif first == 1 and weights["diversity"] > 0:
            problems.add(
                (*path, "diversity"),
                f"{show(weights['diversity'])} has no effect with one first seed, for diversity is measured across "
                "seeds; allowed: 0, or at least two first_seeds",
            )


CHECKS: Sequence[Callable[[dict, Problems, Path], None]] = (
    _check_split,
    _check_files,
    _check_verifiers,
    _check_models,
    _check_policy_samples,
    _check_iteration,
    _check_judge,
    _check_heuristics,
    _check_scoring,
    _check_objectives,
    _check_learnability,
    _check_samplers,
    _check_serving,
    _check_training,
    _check_overlap,
    _check_preferences,
    _check_repeated_sampling,
    _check_budgets,
)
