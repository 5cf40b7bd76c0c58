"""Show, token by token, how samplers change a language model's distributions, and what each would have drawn.

    python -m adaptive_samplers.explain --prompt "Tell me a joke." --chain '[{top_p: 0.9}, {temperature: 0.7}]'

Without --chain and --sampler, the learned samplers of the config's run are shown, if it has trained some.
docs/explain.md says what the numbers mean.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from adaptive_samplers.config.layers import DEMO, read_layers
from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.model import Config
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.config.weights import lesson_names, sampler_names
from adaptive_samplers.errors import UserError
from adaptive_samplers.explain.asking import FOLLOWED, Compared, asked_for, conversation, imitated_by, parse_chain
from adaptive_samplers.explain.models import opened
from adaptive_samplers.explain.page import explanation_page
from adaptive_samplers.explain.steps import explain
from adaptive_samplers.explain.terminal import as_text
from adaptive_samplers.samplers.registry import checked_preference

_LIMITS = {"seed": (0, 2**63 - 1), "tokens": (1, 1000), "top": (1, 100)}


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    for name, (least, most) in _LIMITS.items():
        if not least <= getattr(options, name) <= most:
            raise UserError(f"--{name}: is {getattr(options, name)}; allowed: a number from {least} to {most}")
    config = typed_config(load_config(read_layers(options.config or [DEMO]), Path.cwd()))
    messages, compared = conversation(options.prompt, options.system), _compared(options, config)
    asked = asked_for(config, messages, compared, options.seed, options.tokens, options.top)
    name = options.model or config.model.name
    print(f"loading {name} ...", file=sys.stderr, flush=True)
    with opened(config, options.model) as model:
        explanation = explain(model, asked)
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    text = as_text(explanation, shutil.get_terminal_size((100, 24)).columns, color)
    # A terminal's encoding may lack characters of an answer.
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
    explanation_page(explanation, name, options.output)
    print(f"\nPage   {options.output}")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m adaptive_samplers.explain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prompt", required=True, help="what is asked")
    parser.add_argument("--system", help="a system message before it")
    parser.add_argument("--config", action="append", help=f"several are layered in this order; {DEMO} if not given")
    parser.add_argument("--model", help="a language model of the config by its name, or a folder; the base model")
    parser.add_argument("--chain", action="append", default=[], help="as in heuristics.pipelines; one of several")
    parser.add_argument(
        "--sampler", action="append", default=[], help="a saved sampler's folder or hub id; one of several"
    )
    parser.add_argument("--preference", action="append", type=float, help="of samplers that take one; one of several")
    parser.add_argument("--follow", choices=FOLLOWED, help="what draws the answer; the first sampler, or else chain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=24, help="at most so many (%(default)s)")
    parser.add_argument("--top", type=int, default=12, help="tokens of a distribution in the page (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("explain.html"), help="the page (%(default)s)")
    return parser.parse_args(arguments)


def _compared(options: argparse.Namespace, config: Config) -> Compared:
    chains = [parse_chain(text) for text in options.chain]
    folders = options.sampler or ([] if chains else _trained(config))
    known = sampler_names(config)
    own = Path("results") / config.run.name / "samplers"
    # A name of the run's stands for its folder.
    folders = [str(own / folder) if folder in known and (own / folder).is_dir() else folder for folder in folders]
    preferences = [checked_preference(value) for value in options.preference or config.evaluation.preferences]
    training_set = imitated_by(Path(folders[0])) if folders else None
    compared = Compared(chains, folders, preferences, training_set, options.follow)
    if options.preference and not any(way.preference is not None for way in compared.ways()):
        raise UserError("--preference: none of the samplers takes one; leave it out")
    return compared


def _trained(config: Config) -> list[str]:
    """The run's samplers of its first lesson, as far as they are trained."""
    own = Path("results") / config.run.name / "samplers"
    lesson = lesson_names(config)[0]
    names = [name for name in sampler_names(config) if name.endswith(f"/{lesson}") and (own / name).is_dir()]
    if not names:
        print(f"{own} has no sampler; the model's own probabilities are shown", file=sys.stderr)
    return names


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
