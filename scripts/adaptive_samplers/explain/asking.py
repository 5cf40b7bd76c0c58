"""What is explained: from a config, a command line or both."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adaptive_samplers.config.checks.heuristics import check_steps
from adaptive_samplers.config.model import Config
from adaptive_samplers.config.problems import Problems
from adaptive_samplers.config.weights import training_set_of
from adaptive_samplers.errors import UserError
from adaptive_samplers.explain.steps import Asked
from adaptive_samplers.explain.ways import RAW, Mixture, Way, chain_way, families, sampler_ways
from adaptive_samplers.heuristics import Pipeline, configured_pipeline

FOLLOWED = ("raw", "chain", "sampler")


@dataclass(frozen=True)
class Compared:
    """The ways that are compared with the raw logits, and what the learned ones imitated.

    Attributes
    ----------
    chains : list of Pipeline
    samplers : list of str
        Folders of saved samplers.
    preferences : list of float
        At which those that take one are shown.
    training_set : Path or None
        The table `training_sets` that the first sampler imitated.
    follow : one of `FOLLOWED`, or None
        Which kind draws the answer, the first of its kind; None: a sampler, or a chain, or the raw logits.
    """

    chains: Sequence[Pipeline] = ()
    samplers: Sequence[str] = ()
    preferences: Sequence[float] = ()
    training_set: Path | None = None
    follow: str | None = None

    def ways(self) -> list[Way]:
        """Chains, then samplers, each once."""
        found = [chain_way(chain) for chain in self.chains]
        for folder in self.samplers:
            found += sampler_ways(folder, self.preferences)
        return list(dict.fromkeys(found))

    def followed(self, ways: Sequence[Way]) -> Way:
        """The way that draws the answer.

        Raises
        ------
        UserError
            If there is none of the kind that is wanted.
        """
        kinds = [self.follow] if self.follow else [*reversed(FOLLOWED)]
        for kind in kinds:
            for way in (RAW, *ways):
                if way.kind == kind:
                    return way
        raise UserError(f"--follow {self.follow}: there is no {self.follow}; name one with --{self.follow}")


def asked_for(
    config: Config, messages: list[dict[str, str]], compared: Compared, seed: int, tokens: int, top: int
) -> Asked:
    """What to explain of an answer to a conversation, with the families of the config and its rules for answers."""
    ways = compared.ways()
    others = [way for way in families(config.heuristics) if way.pipeline not in {one.pipeline for one in ways}]
    return Asked(
        messages,
        ways,
        others,
        compared.followed(ways),
        Mixture.of_training_set(compared.training_set) if compared.training_set else None,
        seed,
        config.run.seed,
        tokens,
        top,
        tuple(config.generation.stop),
    )


def imitated_by(folder: Path) -> Path | None:
    """The training set that a sampler `{run}/samplers/{architecture}/{lesson}` imitated; None if it is not there."""
    name = training_set_of(folder.name)
    if name is None or len(folder.parts) < 3:
        return None
    path = folder.parents[2] / "training_sets" / f"{name}.parquet"
    return path if path.is_file() else None


def parse_chain(text: str) -> Pipeline:
    """A chain as configs write it, such as `[{top_p: 0.9}, {temperature: 0.7}]`, or `top_p: 0.9` for one step.

    Raises
    ------
    UserError
        If it is no chain.
    """
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--chain {text}: is not YAML ({' '.join(str(error).split())})") from None
    steps = [value] if isinstance(value, dict) else value
    if not isinstance(steps, list) or not steps or not all(isinstance(step, dict) and len(step) == 1 for step in steps):
        raise UserError(f"--chain {text}: is no chain; write, for example, '[{{top_p: 0.9}}, {{temperature: 0.7}}]'")
    problems = Problems()
    check_steps(steps, ("--chain",), problems, Path.cwd())
    problems.raise_if_any()
    return configured_pipeline(steps)


def conversation(prompt: str, system: str | None = None) -> list[dict[str, str]]:
    """A prompt as the messages of the table `prompts`, so that its id, and with it what is drawn, is the same.

    Raises
    ------
    UserError
        If it is empty, or not text.
    """
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    for message in messages:
        if not message["content"].strip():
            raise UserError('the prompt is empty; write make explain PROMPT="..."')
        try:
            json.dumps(message["content"], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise UserError("the prompt is not valid UTF-8; correct the terminal's encoding, or the file's") from None
    return messages
