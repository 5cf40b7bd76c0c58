"""Checks of how answers are generated: servers and budgets."""

from itertools import product
from pathlib import Path

from adaptive_samplers.config.checks.common import QUALITY, at, judges
from adaptive_samplers.config.problems import KeyPath, Problems
from adaptive_samplers.config.words import join, show

# Arguments of the servers that follow from other keys, or that would open them to others.
_OF_BOTH = (
    "--model",
    "--host",
    "--port",
    "--api-key",
    "--tensor-parallel-size",
    "--data-parallel-size",
    "--dtype",
    "--trust-remote-code",
    "--config",
)
_OWN_ARGUMENTS = {
    "sglang": (
        *_OF_BOTH,
        "--model-path",
        "--admin-api-key",
        "--tp-size",
        "--dp-size",
        "--weight-version",
    ),
    "vllm": (
        *_OF_BOTH,
        "-tp",
        "-dp",
        "--served-model-name",
        "--logits-processors",
        "--logprobs-mode",
        "--generation-config",
        "--override-generation-config",
        "--uds",
        "--middleware",
    ),
}


def check_serving(config: dict, problems: Problems, base_folder: Path) -> None:
    users: list[KeyPath] = [("generation",), *judges(config, problems)]
    for user, (engine, own) in product(users, _OWN_ARGUMENTS.items()):
        key = (*user, engine, "arguments")
        # Not every kind of judge has servers.
        if problems.clean(*key) and engine in at(config, user):
            for i, argument in enumerate(at(config, key)):
                # vLLM takes an underscore for a hyphen.
                name = argument.split("=")[0].strip().partition(" ")[0]
                if name.replace("_", "-") in own:
                    message = f"'{name}' follows from other keys; allowed: other arguments of the server"
                    problems.add((*key, i), message)


def check_budgets(config: dict, problems: Problems, base_folder: Path) -> None:
    place = ("generation", "adaptive")
    if not problems.clean(*place) or not problems.clean("seeds") or not config["generation"]["adaptive"]["enabled"]:
        return
    adaptive, seeds = config["generation"]["adaptive"], len(config["seeds"])
    if problems.clean(*QUALITY):
        quality = at(config, QUALITY)
        if quality["others"]:
            problems.add((*QUALITY, "others"), "is not empty while generation.adaptive is enabled; allowed: one judge")
        if quality["tournament"].get("group") == "prompt":
            message = "is prompt while generation.adaptive rates the seeds of two phases apart; allowed: seed"
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
            f"{show(adaptive['budget'])} of {seeds} seeds is spent in the first phase, which takes {first}; allowed: "
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
