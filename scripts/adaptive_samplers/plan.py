"""What a run will take, before any of it runs: jobs, hours and disk, under stated assumptions.

Everything here except the count of prompts is arithmetic on a config. The assumptions are round numbers for one GPU
with 80 GB (A100, H100) and were measured on none, except for the bytes of tables, which were measured on the embedded
default. So take the hours as an order of magnitude, run one shard, and plan again with what it shows: docs/presets.md
tells which number follows from which file in `benchmarks/`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any

from adaptive_samplers.config.judges import judges_by_name
from adaptive_samplers.config.model import Config
from adaptive_samplers.config.model.judges import JudgeSettings
from adaptive_samplers.config.model.sources import FetchedModel
from adaptive_samplers.config.weights import sampler_names, samplers_by_rule, weight_names
from adaptive_samplers.engines.registry import ENGINES, records_draws
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import expand_heuristics
from adaptive_samplers.labels.judges.registry import JUDGES
from adaptive_samplers.labels.tournament.adaptive import default_comparisons
from adaptive_samplers.labels.tournament.pairing import default_rounds
from adaptive_samplers.prompts import KINDS, SPLITS, collect_prompts
from adaptive_samplers.samplers import evaluated
from adaptive_samplers.training.objectives import OBJECTIVES
from adaptive_samplers.training.objectives.definitions import FromOutcomes
from adaptive_samplers.verbalized.asking import Asking

SECONDS_AN_HOUR = 3600
REFERENCE_BILLIONS = 3.0
USUAL_HORIZON = 16  # token-steps of each answer that objectives on recorded draws count, where they choose themselves


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _assumed(value: float, meaning: str) -> Any:
    return field(default=value, metadata={"meaning": meaning})


# Each engine declares its rate, which is an assumption and therefore an option, like the others.
_RATES = {kind.token_rate.assumption: kind.token_rate for kind in ENGINES.values()}
_EngineRates = make_dataclass(
    "_EngineRates", [(name, float, _assumed(rate.value, rate.meaning)) for name, rate in _RATES.items()], frozen=True
)


@dataclass(frozen=True)
class Assumptions(_EngineRates):
    """What the estimate takes for granted; the meaning of each, with its unit, is in the field's metadata.

    Rates of language models hold for one GPU and 3 billion parameters. A larger model is slower in proportion, a
    smaller one is taken to be as fast, and n GPUs are n times as fast. Those of
    engines are declared with them.
    """

    judge_tokens_per_second: float = _assumed(25_000, "tokens a second that a judge reads")
    replay_tokens_per_second: float = _assumed(4000, "tokens a second that the replay reads and sketches")
    texts_per_second: float = _assumed(1500, "answers a second that the embedder embeds")
    training_steps_per_second: float = _assumed(10, "optimizer steps a second, whatever the hardware")
    groups_per_second: float = _assumed(150, "answers to one prompt and heuristic, measured for diversity, a second")
    verifications_per_second: float = _assumed(200, "answers a second that a verifier checks")
    start_minutes: float = _assumed(4, "minutes in which a GPU job loads its model")
    answer_share: float = _assumed(0.6, "mean length of an answer, as a share of generation.max_new_tokens")
    prompt_tokens: float = _assumed(150, "mean length of a prompt with its chat template, tokens")
    instruction_tokens: float = _assumed(200, "tokens of a pairwise judge's instructions")
    bytes_per_token: float = _assumed(13.7, "bytes of an answer's token in the candidates, with its text and logprobs")
    bytes_per_row: float = _assumed(75, "bytes of an answer in all tables of labels and scores together")
    bytes_per_vector: float = _assumed(1710, "bytes of an embedded text")
    unknown_billions: float = _assumed(3, "billions of parameters of a model whose name does not tell")

    def __post_init__(self) -> None:
        for item in fields(self):
            if not getattr(self, item.name) > 0:
                raise UserError(
                    f"{_option(item.name)}: {getattr(self, item.name):g} is out of range; allowed: a number above 0"
                )


@dataclass(frozen=True)
class Prompts:
    """How many prompts are planned.

    Attributes
    ----------
    train, validation, test : prompts in each split.
    kinds : share of each kind among them; the shares sum to 1.
    """

    train: float
    validation: float
    test: float
    kinds: Mapping[str, float]

    @property
    def total(self) -> float:
        return self.train + self.validation + self.test

    def scaled(self, total: float) -> "Prompts":
        """This many prompts in the same proportions."""
        factor = total / self.total
        return Prompts(self.train * factor, self.validation * factor, self.test * factor, self.kinds)


def planned_prompts(config: Config, folder: Path) -> tuple[Prompts, int]:
    """How many prompts to plan for, and how many there are now.

    A source that holds fewer prompts than its `limit` is planned to be filled up to it; nothing is filled up if
    `prompts.per_kind` caps the number.

    Parameters
    ----------
    folder : where the paths of its sources begin.
    """
    settings = config.prompts
    split, per_kind = settings.split.model_dump(), settings.per_kind.model_dump()
    table = collect_prompts(settings.sources, split, per_kind, folder)
    total = len(table)
    if not any(per_kind.values()):
        for source in settings.sources:
            here = len(collect_prompts([source], split, None, folder))
            total += max(0, (source.limit or 0) - here)
    share = table["kind"].value_counts(normalize=True)
    kinds = {kind: float(share.get(kind, 0.0)) for kind in KINDS}
    if total != len(table):
        counts = [total * split[name] for name in SPLITS]
    else:
        counts = [int((table["split"] == name).sum()) for name in SPLITS]
    return Prompts(*counts, kinds=kinds), len(table)


@dataclass(frozen=True)
class Work:
    """One job of a rule: how long it lasts, and on how many GPUs (0 for a job on CPUs)."""

    hours: float
    gpus: int = 0


@dataclass(frozen=True)
class Estimate:
    """The whole estimate.

    Attributes
    ----------
    counts : what is made, such as `answers`; the names are for people.
    work : by rule, for the rules that take more than minutes at scale.
    disk : by stage, bytes.
    memory : by rule, the minimum bytes that a job holds, if they follow from the run's size.
    """

    counts: Mapping[str, float]
    work: Mapping[str, Work]
    disk: Mapping[str, float]
    memory: Mapping[str, float]


def billions_of_parameters(name: str) -> float | None:
    """The size in a model's name, in billions of parameters: `meta-llama/Llama-3.2-3B` has 3; None if none."""
    found = re.findall(r"(?<![\d.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", name.rsplit("/", 1)[-1].lower())
    if not found:
        return None
    number, unit = found[-1]
    return float(number) / (1 if unit == "b" else 1000)


def estimate(config: Config, prompts: Prompts, assumptions: Assumptions) -> Estimate:
    """Hours and bytes of a run.

    Parameters
    ----------
    prompts : how many there will be; the config alone does not tell.
    """
    run = _Run(config, prompts, assumptions)
    return Estimate(counts=run.counts(), work=run.work(), disk=run.disk(), memory=run.memory())


# Rules that label all answers, and those that instead label one of the two phases of adaptive budgets.
_LABELS_OF_PHASES = {
    "embed_candidates": "embed_budget_phase",
    "label_quality": "label_budget_quality",
    "label_correctness": "label_budget_correctness",
}


class _Run:
    """The arithmetic; every method names its formula."""

    def __init__(self, config: Config, prompts: Prompts, assumptions: Assumptions) -> None:
        self.config = config
        self.prompts = prompts
        self.assumed = assumptions
        self.generation = config.generation
        # A judge without a model takes negligible time.
        judges = judges_by_name(config).values()
        self.judges = [judge for judge in judges if JUDGES[judge.kind].calls(judge)]
        self.gpus = 0 if config.model.device == "cpu" else 1
        self.seeds = len(config.seeds)
        heuristics = config.heuristics
        self.heuristics = len(expand_heuristics(heuristics))
        self.samplers = len(sampler_names(config))
        self.evaluated = self._evaluated(sampler_names(config))
        self.outcomes = [one for one in config.training.objectives if OBJECTIVES[one.kind].data.recorded]
        self.answer_tokens = assumptions.answer_share * self._mean_limit()
        # How much of all prompts, heuristics and seeds is answered.
        adaptive = self.generation.adaptive
        budget = adaptive.budget if adaptive.enabled else 1.0
        self.share = (prompts.train * budget + prompts.validation + prompts.test) / prompts.total
        self.answers = self.share * prompts.total * self.heuristics * self.seeds
        # Verbalized heuristics write whole replies, and train nothing.
        replies = assumptions.answer_share * sum(
            Asking.configured(entry).limit(self._mean_limit()) for entry in heuristics.verbalized
        )
        self.selectable = self.heuristics - len(heuristics.verbalized)
        self.generated = self.share * prompts.total * self.seeds * (self.selectable * self.answer_tokens + replies)
        # Prompts that learned samplers answer too, in a job: those of the test split. With a declared plan, other jobs
        # of the same rules have those of the validation split, and the mean counts.
        self.judged_parts = 1 + config.evaluation.protocol.enabled
        self.judged = (prompts.test + (prompts.validation if self.judged_parts > 1 else 0)) / self.judged_parts
        self.judged_answers = self.judged * (self.heuristics + self.evaluated) * self.seeds
        # What objectives learn from that need recorded draws.
        self.recorded = self.selectable * self.seeds * (prompts.train * budget + prompts.validation)
        # At most: answers that several weightings select are read once.
        kept = min(sum(config.scoring.top_k), self.selectable) * len(weight_names(config.scoring))
        self.selected = prompts.total * self.seeds * min(kept, self.selectable)
        # What is recorded as it is generated is not read again: all of it, if whole answers are.
        self.records_draws = records_draws(self.generation)
        self.replayed = self.selected
        if self.records_draws and config.off_policy.steps is None:
            self.replayed *= prompts.test / prompts.total

    def _evaluated(self, samplers: Sequence[str]) -> int:
        """As how many samplers those of these names answer: at each temperature, and preference if they take one."""
        at = self.config.evaluation.preferences, self.config.evaluation.temperatures
        return sum(len(evaluated(name, *at)) for name in samplers)

    def _mean_limit(self) -> float:
        limit = self.generation.max_new_tokens
        if isinstance(limit, int):
            return limit
        return sum(share * getattr(limit, kind) for kind, share in self.prompts.kinds.items())

    def counts(self) -> dict[str, float]:
        counts = {
            "prompts": self.prompts.total,
            "heuristics": self.heuristics,
            "seeds": self.seeds,
            "answers": self.answers,
            "generated tokens": self.generated,
            "learned samplers": self.samplers,
            "selected answers (at most)": self.selected,
        }
        if self.judges:
            prompts = self.share * self.prompts.total
            counts["judge calls"] = sum(self._judge_calls(judge, prompts, self.heuristics) for judge in self.judges)
        return counts

    def work(self) -> dict[str, Work]:
        a = self.assumed
        work = {
            # tokens of a shard's answers, or of a job's samplers / tokens a second
            "generate_candidates": self._generating(self.generated / self.seeds / self.generation.shards),
            **{
                rule: self._generating(self._evaluated(samplers) * self.judged * self.seeds * self.answer_tokens)
                for rule, samplers in samplers_by_rule(self.config).items()
            },
            # answers / answers a second
            "embed_candidates": self._on_gpus(self.answers / a.texts_per_second),
            # The heuristics' answers have their vectors.
            "embed_evaluation": self._on_gpus(self._sampled() / a.texts_per_second),
            # groups (a prompt and a heuristic) / groups a second
            "label_diversity": _on_cpu(self.answers / self.seeds / a.groups_per_second),
            "label_evaluation_diversity": _on_cpu(self.judged_answers / self.seeds / a.groups_per_second),
            # answers to verifiable prompts / answers a second
            "label_correctness": _on_cpu(self._verifiable(self.answers) / a.verifications_per_second),
            "label_evaluation_correctness": _on_cpu(self._verifiable(self.judged_answers) / a.verifications_per_second),
            # tokens of a shard's prompts and answers / tokens a second
            "replay_distributions": self._on_gpus(
                self.replayed
                / self.config.training.replay_shards
                * (a.prompt_tokens + self.answer_tokens)
                / (a.replay_tokens_per_second * self._speed(_model_name(self.config.model)))
            ),
            "train_sampler": _on_cpu(self.config.training.steps / a.training_steps_per_second),
        }
        if self.outcomes:
            work["record_draws"] = self._on_gpus(
                (0.0 if self.records_draws else self.recorded)
                / self.config.off_policy.shards
                * (a.prompt_tokens + self._recorded_tokens())
                / (a.replay_tokens_per_second * self._speed(_model_name(self.config.model)))
            )
            work["train_on_outcomes"] = _mean_work([self._learning(objective) for objective in self.outcomes])
        first = self.config.labels.quality.judge
        competitors = self.heuristics + self.evaluated
        for ending, judges in (
            ("", [judge for judge in self.judges if judge is first]),
            ("_by_others", [judge for judge in self.judges if judge is not first]),
        ):
            # The speed of an external server is unknown.
            known = [judge for judge in judges if JUDGES[judge.kind].has_model]
            if not known:
                continue
            shards = self.config.labels.quality.shards
            work[f"label_quality{ending}"] = _mean_work(
                [self._judging(judge, self.share * self.prompts.total / shards, self.heuristics) for judge in known]
            )
            work[f"label_evaluation_quality{ending}"] = _mean_work(
                [self._judging(judge, self.judged / shards, competitors) for judge in known]
            )
        return self._in_two_phases(work) if self.generation.adaptive.enabled else work

    def _recorded_tokens(self) -> float:
        """Of an answer."""
        return min(self.answer_tokens, self.config.off_policy.steps or self.answer_tokens)

    def _learning(self, objective: FromOutcomes) -> Work:
        """Steps that imitate, and steps on all answers to some prompts, each of which counts as several batches."""
        token_steps = min(objective.horizon or USUAL_HORIZON, self._recorded_tokens())
        answers = min(objective.prompts, self.prompts.train) * self.selectable * self.seeds
        batches = objective.steps * answers * token_steps / self.config.training.batch_size
        return _on_cpu((objective.start_steps + batches) / self.assumed.training_steps_per_second)

    def _in_two_phases(self, work: dict[str, Work]) -> dict[str, Work]:
        """The same work by the rules of adaptive budgets: a mean shard of later seeds, and labels of a mean phase."""
        work["generate_allocated"] = work["generate_candidates"]
        for rule, of_phase in _LABELS_OF_PHASES.items():
            if rule in work:
                work[of_phase] = replace(work[rule], hours=work[rule].hours / 2)
        return work

    def disk(self) -> dict[str, float]:
        a = self.assumed
        answer_bytes = self.answer_tokens * a.bytes_per_token
        # Answers are in their shards and again in the verified table; test answers in the evaluation's tables.
        judged = self.judged_parts * self.judged_answers
        candidates = (2 * self.answers + judged + self.judged_parts * self._sampled()) * answer_bytes
        models = {self.config.model.name: self.config.model}
        models |= {judge.name: judge for judge in self.judges if JUDGES[judge.kind].has_model}
        of_steps = self._sketch_bytes(self._recorded_tokens())
        copies = self.records_draws + bool(self.outcomes)
        return {
            "models": sum(self._model_bytes(model) for model in models.values()),
            "candidates": candidates,
            "embeddings": (self.answers + judged) * a.bytes_per_vector,
            "labels and scores": (self.answers + judged) * a.bytes_per_row,
            "sketches (at most)": self.selected * self._sketch_bytes(self.answer_tokens),
            **({"recorded draws": copies * self.recorded * of_steps} if copies else {}),
        }

    def memory(self) -> dict[str, float]:
        # A training set's sketches, for the largest top_k.
        answers = self.prompts.total * self.seeds * max(self.config.scoring.top_k)
        return {"train_sampler": answers * self._sketch_bytes(self.answer_tokens)}

    def _sketch_bytes(self, tokens: float) -> float:
        """Of an answer: for each token and the end, the support points (a log-probability and a count in float32 each),
        the token, its rank and its log-probability."""
        sketch = self.config.training.sketch
        return (tokens + 1) * (8 * (sketch.top + sketch.tail) + 12)

    def _sampled(self) -> float:
        """Answers of learned samplers, by a job that embeds them."""
        return self.judged * self.evaluated * self.seeds

    def _verifiable(self, answers: float) -> float:
        return answers * self.prompts.kinds.get("verifiable", 0.0)

    def _speed(self, model_name: str) -> float:
        """The speed of a model relative to one of 3 billion parameters."""
        billions = billions_of_parameters(model_name) or self.assumed.unknown_billions
        return min(1.0, REFERENCE_BILLIONS / billions)

    def _generating(self, tokens: float) -> Work:
        engine, model = ENGINES[self.generation.engine], self.config.model
        speed = getattr(self.assumed, engine.token_rate.assumption) * self._speed(_model_name(model))
        gpus = engine.gpus_of(self.generation, model.device)
        return self._on_gpus(tokens / speed, gpus, len(engine.endpoints_of(self.generation)))

    def _judging(self, judge: JudgeSettings, prompts: float, competitors: int) -> Work:
        a, engine = self.assumed, ENGINES[judge.engine]
        read = a.prompt_tokens + self.answer_tokens
        if JUDGES[judge.kind].compares:
            read += self.answer_tokens + a.instruction_tokens
        seconds = self._judge_calls(judge, prompts, competitors) * read
        seconds /= a.judge_tokens_per_second * self._speed(_model_name(judge))
        return self._on_gpus(seconds, engine.gpus_of(judge, judge.device), len(engine.endpoints_of(judge)))

    def _judge_calls(self, judge: JudgeSettings, prompts: float, competitors: int) -> float:
        """What a judge reads: every answer once or a few times, or every comparison in one order or both."""
        groups, kind = prompts * self.seeds, JUDGES[judge.kind]
        if not kind.compares:
            return groups * competitors * kind.calls(judge)
        tournament = self.config.labels.quality.tournament
        if tournament.group == "prompt":
            groups, competitors = prompts, competitors * self.seeds
        comparisons = comparisons_in_a_tournament(
            competitors, tournament.schedule, tournament.rounds, tournament.adaptive.comparisons
        )
        return groups * comparisons * kind.calls(judge)

    def _on_gpus(self, seconds: float, gpus: int | None = None, servers: int = 0) -> Work:
        """A job with its own GPUs, or one without if it uses external servers or a CPU.

        External servers use their own GPUs, however many; one address counts as one.
        """
        gpus = self.gpus if gpus is None else gpus
        if servers or not gpus:
            return Work(seconds / max(servers, 1) / SECONDS_AN_HOUR)
        return Work(seconds / gpus / SECONDS_AN_HOUR + self.assumed.start_minutes / 60, gpus)

    def _model_bytes(self, model: FetchedModel) -> float:
        # Packages carry quantized models, which are unpacked to float32; the others come in 16 bits.
        width = 4 if model.source.kind == "package" else 2
        return width * 1e9 * (billions_of_parameters(_model_name(model)) or self.assumed.unknown_billions)


def _on_cpu(seconds: float) -> Work:
    return Work(seconds / SECONDS_AN_HOUR)


def _mean_work(jobs: Sequence[Work]) -> Work:
    """The mean job of a rule whose jobs differ; of GPUs the most that one asks for."""
    return Work(sum(job.hours for job in jobs) / len(jobs), max(job.gpus for job in jobs))


def _model_name(model: FetchedModel) -> str:
    source = model.source
    return source.repo if source.kind == "hub" else model.name


def comparisons_in_a_tournament(competitors: int, schedule: str, rounds: int | None, budget: int | None = None) -> int:
    """Comparisons, at most, between the answers that meet in a tournament; `rounds` and `budget` as configured."""
    pairs = competitors * (competitors - 1) // 2
    if schedule == "round_robin" or competitors < 2:
        return pairs
    if schedule == "adaptive":
        return min(pairs, budget or default_comparisons(competitors))
    return min(pairs, (rounds or default_rounds(competitors)) * (competitors // 2))


def job_counts(dry_run: str) -> dict[str, int]:
    """Jobs of each rule, from what `snakemake --dry-run --quiet rules` prints; empty where nothing is to be done."""
    lines = [line.split() for line in dry_run.splitlines()]
    return {
        words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit() and words[0] != "total"
    }


def render(found: Estimate, jobs: Mapping[str, int], assumptions: Assumptions) -> str:
    """The estimate as text: what is made, jobs with their hours, disk, and the assumptions behind it."""
    lines = ["What is made", *(f"  {name:<30} {count:>16,.0f}" for name, count in found.counts.items()), ""]
    lines.append(f"{'Jobs':<32} {'jobs':>6} {'GPUs each':>10} {'hours each':>11} {'GPU hours':>10}")
    total = 0.0
    for rule, count in jobs.items():
        work = found.work.get(rule)
        if work is None:
            lines.append(f"  {rule:<30} {count:>6}")
            continue
        hours = count * work.hours * work.gpus
        total += hours
        gpu_hours = f"{hours:>10.1f}" if work.gpus else f"{'':>10}"
        lines.append(f"  {rule:<30} {count:>6} {work.gpus or '':>10} {work.hours:>11.2f} {gpu_hours}".rstrip())
    lines += [f"  {'total':<30} {sum(jobs.values()):>6} {'':>10} {'':>11} {total:>10.1f}", ""]
    lines += ["Disk, GB", *(f"  {name:<30} {size / 1e9:>16,.1f}" for name, size in found.disk.items())]
    lines += [f"  {'total':<30} {sum(found.disk.values()) / 1e9:>16,.1f}", ""]
    lines += ["Memory of one job, GB, at least"]
    lines += [*(f"  {rule:<30} {size / 1e9:>16,.1f}" for rule, size in found.memory.items()), ""]
    lines.append("These are estimates, made of the assumptions below; docs/presets.md tells how to measure them. Rules")
    lines.append("without hours have no estimate. Rates of models hold for one GPU and 3 billion parameters.")
    for item in fields(assumptions):
        lines.append(f"  {_option(item.name):<34} {getattr(assumptions, item.name):>8g}  {item.metadata['meaning']}")
    return "\n".join(lines)
