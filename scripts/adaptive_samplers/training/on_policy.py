"""On-policy training: a sampler answers prompts, verifiers judge its answers, and it learns from them, again and again.

A step is a function of the weights before it and of its number: prompts follow from the seed and the number, and so do
the uniform numbers of answers, which are new in every step. So a killed run that begins its last step again ends as an
undisturbed one.
"""

import copy
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch

from adaptive_samplers.config.model import Config
from adaptive_samplers.config.model.on_policy import OnPolicy
from adaptive_samplers.config.model.training import SketchSize
from adaptive_samplers.engines.base import Engine, kept_open
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output
from adaptive_samplers.generation import GenerationSettings, generate
from adaptive_samplers.hashing import content_id, content_number, file_sha256
from adaptive_samplers.heuristics import learned_heuristic
from adaptive_samplers.labels.correctness import label_correctness
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.off_policy.reading import Logged, answers_to_record, read_logged, without_ends_by_strings
from adaptive_samplers.progress import progress
from adaptive_samplers.provenance import provenance
from adaptive_samplers.samplers.base import AdaptiveSampler
from adaptive_samplers.stage import say
from adaptive_samplers.tables import read_table
from adaptive_samplers.training.policy_gradient import PolicyBatch, policy_loss
from adaptive_samplers.training.replay import replay
from adaptive_samplers.training.saving import save_trained
from adaptive_samplers.training.trainer import (
    BatchOrder,
    Row,
    TrainingProgress,
    TrainingSettings,
    device_of,
    load_checkpoint,
    make_optimizer,
    save_checkpoint,
    training_step,
)
from adaptive_samplers.versions import STAGE_VERSIONS

if TYPE_CHECKING:
    from adaptive_samplers.models.language_model import LanguageModel

SPLITS = ("train", "validation")
ROUNDING = 1e-6  # nats a step; a divergence below is that of equal samplers


class Answers(NamedTuple):
    """What came of a step's requests: answers with rewards and draws, and how many have none because they failed."""

    logged: Logged
    failed: int


Collect = Callable[[AdaptiveSampler, int], Answers]
Measure = Callable[[AdaptiveSampler, int], float | None]


def improve(
    sampler: AdaptiveSampler,
    collect: Collect,
    measure: Measure,
    options: OnPolicy,
    gradient_clip: float,
    fingerprint: str,
    checkpoint: Path,
) -> list[Row]:
    """Train `sampler` in place, on its device, on answers of its own.

    A checkpoint from the same beginning is resumed, and training then ends as without the interruption; any other is
    replaced. A step of which no prompt has answers of different worth only pulls toward the beginning, by `options.kl`,
    and changes nothing where that is 0.

    Parameters
    ----------
    sampler : AdaptiveSampler
        With the weights to begin with.
    collect : function of the sampler and the number of a step
        Has the sampler answer.
    measure : the same
        Its mean reward on prompts that it does not learn from, if there are any.
    gradient_clip : float
        Largest norm of the gradient.
    fingerprint : str
        Of all that answers depend on besides the sampler's weights, and of what training begins with.
    checkpoint : Path
        A file, written after every step.

    Returns
    -------
    list of rows
        The curves. Those of the split `train` tell of a step what answers were worth (`reward`), how many there were
        and how many `failed`, in how many groups rewards differed (`learning_from`), and the terms of the loss: `kl`
        before the updates, the others after them. Those of `validation` hold what `measure` found.

    Raises
    ------
    UserError
        If the loss or a weight is no longer a number; the checkpoint is that of the step before.
    """
    start = copy.deepcopy(sampler).eval().requires_grad_(False)
    settings = TrainingSettings(
        learning_rate=options.learning_rate,
        batch_size=options.prompts,
        steps=options.steps,
        warmup_steps=0,
        objective={},
        # Decay would pull to a network of zeros; the divergence pulls to where training began.
        weight_decay=0.0,
        gradient_clip=gradient_clip,
        evaluate_every=options.evaluate_every,
        patience=None,
        # Ratios of which the first is not 1 would be wrong by the rounding of bfloat16.
        precision="float32",
        seed=0,
        keep="last",
    )
    optimizer = make_optimizer(sampler, settings)
    state = load_checkpoint(checkpoint, fingerprint, sampler, optimizer, {})
    if state is None:
        state = TrainingProgress(fingerprint)

    def save(rows: list[Row]) -> None:
        """Add rows, a measurement where it is time for one, and write the checkpoint."""
        if state.step % options.evaluate_every == 0 or state.step == options.steps:
            reward = measure(sampler.eval(), state.step)
            if reward is not None:
                say(f"step {state.step} of {options.steps}: mean reward {reward:.4f} (validation)")
                rows.append({"step": state.step, "split": "validation", "reward": reward})
        state.curves.extend(rows)
        save_checkpoint(checkpoint, state, sampler, optimizer, {})

    if state.step == 0:
        state.curves.clear()
        save([])
    with progress(total=options.steps, initial=state.step, description="on-policy training", unit="step") as bar:
        while state.step < options.steps:
            answers = collect(sampler.eval(), state.step)
            row = {"step": state.step, "split": "train"} | _update(
                sampler, start, answers, optimizer, options, settings
            )
            state.step += 1
            save([row])
            bar.set_postfix_str(f"reward {row['reward']:.4f}", refresh=False)
            bar.update()
    sampler.eval()
    return state.curves


def _update(
    sampler: AdaptiveSampler,
    start: AdaptiveSampler,
    answers: Answers,
    optimizer: torch.optim.Optimizer,
    options: OnPolicy,
    settings: TrainingSettings,
) -> Row:
    """Update the sampler on answers of its own; what is told of the step."""
    batch = PolicyBatch.of(answers.logged, sampler, start, device_of(sampler))
    loss = partial(policy_loss, clip=options.clip, kl=options.kl)
    with torch.no_grad():
        terms = [loss(sampler, batch)]
    # Without anything to learn, momentum and the rounding of a gradient that is zero, which AdamW scales up, would go
    # on moving the weights.
    is_told_something = bool(batch.advantages.any()) or (options.kl > 0 and float(terms[0].kl) > ROUNDING)
    for _ in range(options.updates if is_told_something else 0):
        terms.append(training_step(sampler, optimizer, batch, loss, options.learning_rate, settings))
        if not all(term.isfinite() for term in terms[-1]):
            break
    with torch.no_grad():
        terms.append(loss(sampler, batch))
    if not all(tensor.isfinite().all() for tensor in (*terms[-1], *sampler.parameters())):
        raise UserError("on-policy training: the loss or a weight is no number; lower on_policy.learning_rate")
    rewards, prompts = answers.logged.answers.rewards, answers.logged.answers.prompts
    spread = pd.Series(rewards).groupby(prompts).agg(["min", "max"])
    return {
        "reward": float(rewards.mean()),
        "answers": len(rewards),
        "failed": answers.failed,
        "groups": len(spread),
        "learning_from": int((spread["min"] < spread["max"]).sum()),
        "loss": float(terms[-1].loss),
        "gain": float(terms[-1].gain),
        "kl": float(terms[0].kl),
        "clipped": float(terms[-1].clipped),
    }


@dataclass(frozen=True)
class Answering:
    """How a sampler answers, and how its answers are judged and recorded.

    Attributes
    ----------
    prompts : dict from split to DataFrame
        Those with a verifier, in the order of their ids.
    engine : Engine
    reader : LanguageModel
        Reads answers for their distributions.
    model_hash : str
    generation : GenerationSettings
    options : OnPolicy
    sketch : SketchSize
    verification : Verification
    most_failed : float
        Share of the answers that generation may fail to give.
    most_crashed : float
        Share of the answers on which a verifier may crash.
    processes : int
        Of verifiers.
    folder : Path
        Where samplers and answers of the last step are kept, of which a killed job takes up what is there.
    """

    prompts: dict[str, pd.DataFrame]
    engine: Engine
    reader: "LanguageModel"
    model_hash: str
    generation: GenerationSettings
    options: OnPolicy
    sketch: SketchSize
    verification: Verification
    most_failed: float
    most_crashed: float
    processes: int
    folder: Path

    def fingerprint(self) -> list[Any]:
        """All that answers depend on besides a sampler's weights, as JSON."""
        return [
            self.model_hash,
            self.engine.name,
            asdict(self.generation),
            self.options.model_dump(exclude={"sampler"}),
            self.sketch.model_dump(),
            asdict(self.verification),
            [file_sha256(path) for _, path in self.verification.own],
            [content_id(self.prompts[split].to_dict("list")) for split in SPLITS],
        ]

    def collect(self, sampler: AdaptiveSampler, step: int) -> Answers:
        """The sampler's answers to the prompts of a step. Raises UserError if there is none with a reward."""
        folder, prompts = self._folder("train", step), self.prompts["train"].iloc[self._order.at(step).unique().numpy()]
        heuristics, judged = self._judged(sampler, prompts, folder, ["train", step])
        scores = judged.dropna(subset=["score"])
        if scores.empty:
            raise UserError(f"on-policy training, step {step}: no answer could be judged; {judged['error'].iloc[0]}")
        recorded = answers_to_record(folder / "candidates.parquet", prompts, heuristics, ["train"], None, 0, 1)
        recorded = without_ends_by_strings(recorded, self.engine.decode, self.generation.stop)
        draws = folder / "draws.safetensors"
        replay(recorded, self.reader, self.model_hash, self.sketch.top, self.sketch.tail, draws)
        rewards = scores.assign(z_correctness=scores["score"].astype(float))
        logged = read_logged(rewards, {"correctness": 1.0}, heuristics, folder / "candidates.parquet", [draws])
        return Answers(logged, len(judged) - len(scores))

    def measure(self, sampler: AdaptiveSampler, step: int) -> float | None:
        """The sampler's mean reward on prompts of the validation split, always the same; None if there are none."""
        prompts = self.prompts["validation"].head(self.options.evaluation_prompts)
        if prompts.empty:
            return None
        # The same uniform numbers, so that what changes is the sampler alone.
        _, judged = self._judged(sampler, prompts, self._folder("validation", step), ["validation"])
        reward = judged["score"].astype(float).mean()
        return None if math.isnan(reward) else float(reward)

    @cached_property
    def _order(self) -> BatchOrder:
        size = len(self.prompts["train"])
        return BatchOrder(size, min(size, self.options.prompts), self.generation.run_seed)

    def _folder(self, kind: str, step: int) -> Path:
        """The folder of a step's answers; those of other steps are deleted."""
        folder = self.folder / kind / f"step={step}"
        for other in folder.parent.glob("step=*"):
            if other != folder:
                shutil.rmtree(other)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _judged(
        self, sampler: AdaptiveSampler, prompts: pd.DataFrame, folder: Path, seed: list[Any]
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Answers of a sampler into `candidates.parquet`: the row of `heuristics`, and the table of verdicts."""
        # Engines keep what they loaded by its path, which is therefore another one in each step.
        place = folder / "sampler" / folder.name
        with atomic_output(place) as temporary:
            copy.deepcopy(sampler).cpu().save_pretrained(temporary)
        heuristics = pd.DataFrame([learned_heuristic(str(place))])
        candidates, verdicts = folder / "candidates.parquet", folder / "correctness.parquet"
        own = content_number(["on_policy", self.generation.run_seed, *seed])
        settings = replace(self.generation, run_seed=own)
        seeds = range(self.options.answers)
        generate(prompts, heuristics, seeds, self.engine, self.model_hash, settings, candidates)
        label_correctness(candidates, prompts, verdicts, self.most_crashed, self.verification, self.processes)
        judged = read_table("correctness", verdicts)
        lost = judged["error"].dropna()
        lost = lost[lost.str.startswith("generation failed")]
        if len(lost) > self.most_failed * len(judged):
            raise UserError(
                f"on-policy training: {len(lost)} of {len(judged)} answers failed, more than generation.tolerance "
                f"({self.most_failed:g}) allows, the first: {lost.iloc[0]}"
            )
        return heuristics, judged


def prompts_to_learn_from(prompts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The prompts of each split that has a part in training which verifiers can judge, in the order of their ids.

    Raises
    ------
    UserError
        If there is none to train on.
    """
    ordered = prompts[prompts["verifier"].notna()].sort_values("prompt_id", ignore_index=True)
    found = {split: ordered[ordered["split"] == split] for split in SPLITS}
    if found["train"].empty:
        raise UserError(
            "on-policy training: no prompt of the train split has a verifier, which judges answers while a "
            "sampler is trained; add some to prompts.sources, such as resources/verifiable_prompts.jsonl"
        )
    if found["validation"].empty:
        say("no prompt of the validation split has a verifier: nothing is measured there")
    return found


def train_on_policy(
    config: Config,
    prompts: pd.DataFrame,
    start: Path,
    engine: Engine,
    reader: "LanguageModel",
    model_hash: str,
    processes: int,
    output: Path,
) -> None:
    """Go on training a saved sampler on answers of its own, and save it with metrics, curves and provenance.

    The checkpoint and the answers of the step in progress are in `{output}.checkpoint`. The last weights are kept: the
    validation split is measured but chooses nothing.

    Parameters
    ----------
    config : Config
        The run's, or the slice of it that the rule gets.
    prompts : DataFrame
        The table of that name.
    start : Path
        The folder of the sampler.
    engine, reader : Engine, LanguageModel
        Which write and read answers.
    processes : int
        Of verifiers.

    Raises
    ------
    UserError
        If no prompt can be trained on, too many answers fail, or the loss is no longer a number.
    """
    options, correctness = config.on_policy, config.labels.correctness
    folder = output.with_name(f"{output.name}.checkpoint")
    sampler = AdaptiveSampler.from_pretrained(start).to(choose_device(config.model.device))
    with kept_open(engine) as answering_engine:
        answering = Answering(
            prompts_to_learn_from(prompts),
            answering_engine,
            reader,
            model_hash,
            GenerationSettings.from_config(config),
            options,
            config.training.sketch,
            Verification.from_settings(correctness),
            config.generation.tolerance,
            correctness.tolerance,
            processes,
            folder,
        )
        began = {"config": sampler.config, "weights": file_sha256(start / "model.safetensors")}
        gradient_clip = config.training.gradient_clip
        version = STAGE_VERSIONS["train_on_policy"]
        fingerprint = content_id([version, began, gradient_clip, answering.fingerprint()], length=32)
        curves = improve(
            sampler,
            answering.collect,
            answering.measure,
            options,
            gradient_clip,
            fingerprint,
            folder / "checkpoint.safetensors",
        )
    measured = [row["reward"] for row in curves if row["split"] == "validation"]
    trained = [row for row in curves if row["split"] == "train"]
    metrics = {
        "split": "validation",
        "prompts": min(options.evaluation_prompts, len(answering.prompts["validation"])),
        "reward": measured[-1] if measured else None,
        "start_reward": measured[0] if measured else None,
        "kl": trained[-1]["kl"],
        "steps": len(trained),
        "steps_that_told_nothing": sum(not row["learning_from"] for row in trained),
    }
    made_with = {
        "start": {"sampler": str(start), **began},
        "on_policy": options.model_dump(),
        "generation": asdict(answering.generation),
        "gradient_clip": gradient_clip,
        "sketch": config.training.sketch.model_dump(),
        "model": model_hash,
    }
    used = {split: answering.prompts[split]["prompt_id"].tolist() for split in SPLITS}
    record = provenance(made_with, "torch", "transformers", "safetensors", prompts=used)
    save_trained(output, sampler, metrics, curves, record)
    for kind in SPLITS:
        shutil.rmtree(folder / kind, ignore_errors=True)
