"""Training a sampler on sketched token-steps: deterministic by seed, resumed exactly after a kill."""

import copy
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorboard  # noqa: F401, for SummaryWriter: imported here, its absence names the extra to install
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from adaptive_samplers.config.model.training import Training
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.logits import BANNED_DEPTH
from adaptive_samplers.progress import progress
from adaptive_samplers.samplers.base import AdaptiveSampler
from adaptive_samplers.tensors import load_tensors, save_tensors
from adaptive_samplers.training.objectives import OBJECTIVES
from adaptive_samplers.versions import STAGE_VERSIONS

if TYPE_CHECKING:
    from adaptive_samplers.training.objectives.registry import Loss, Predict

Row = dict[str, Any]

STEPS_AT_ONCE = 65_536

# At which a sampler that takes a preference is measured.
MEASURED_PREFERENCES = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class TokenSteps:
    """Token-steps to learn from, or to measure on.

    Attributes
    ----------
    t : log-probabilities at the support points in nats, `[N, S]` float32.
    n : how many tokens each point stands for, `[N, S]` float32.
    target : a heuristic's logits for `t`, minus infinity where it keeps nothing, `[N, S]` float32.
    kept : how many of the tokens at each point the heuristic keeps, `[N, S]` float32.
    """

    t: Tensor
    n: Tensor
    target: Tensor
    kept: Tensor

    # Steps that are measured together.
    measured_together = 1024

    def __post_init__(self) -> None:
        shapes = [tuple(tensor.shape) for tensor in self._tensors]
        if len(set(shapes)) != 1 or self.t.dim() != 2:
            raise ValueError(f"t, n, target and kept must all be [token-steps, support points], not {shapes}")

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return (self.t, self.n, self.target, self.kept)

    def __len__(self) -> int:
        return len(self.t)

    def select(self, index: Tensor | slice, device: torch.device | None = None) -> "TokenSteps":
        """Some of the token-steps, on `device`."""
        return TokenSteps(*(tensor[index].to(device) for tensor in self._tensors))

    def fingerprint(self) -> str:
        """A hash of the content."""
        digest = blake2b()
        for tensor in self._tensors:
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().cpu().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; see `training` in config/README.md.

    Attributes
    ----------
    learning_rate : highest learning rate of AdamW, reached after the warm-up.
    batch_size : token-steps per step.
    steps : optimizer steps; the learning rate decays to 0 along a cosine until then.
    warmup_steps : steps over which the learning rate increases linearly.
    objective : the `kind`, one of `OBJECTIVES`, and its options.
    weight_decay : of the weight matrices; biases, norms and single parameters have none.
    gradient_clip : largest norm of the gradient.
    evaluate_every : steps between validations; a checkpoint is written at each.
    patience : consecutive validations without a better loss before training stops; None never stops early.
    precision : `float32`, or `bfloat16` for the matrix products of the forward and backward pass; weights, losses
        and validations are float32 either way.
    seed : fixes the order of the token-steps.
    keep : `best`, the weights of the best validation, or `last`.
    """

    learning_rate: float
    batch_size: int
    steps: int
    warmup_steps: int
    objective: dict[str, Any]
    weight_decay: float
    gradient_clip: float
    evaluate_every: int
    patience: int | None
    precision: str
    seed: int
    keep: Literal["best", "last"] = "best"

    @classmethod
    def from_config(cls, training: Training, seed: int, **others: Any) -> "TrainingSettings":
        """The settings in the config's `training`, with the given exceptions.

        Without an objective, it is the first of those on selected answers, or imitation if there is none.
        """
        if "objective" not in others:
            selected = [one for one in training.objectives if not OBJECTIVES[one.kind].data.recorded]
            others["objective"] = selected[0].model_dump() if selected else {"kind": "imitation"}
        names = cls.__dataclass_fields__.keys() - {"seed", "keep", *others}
        return cls(**{name: getattr(training, name) for name in names}, **others, seed=seed)

    @property
    def loss(self) -> "Loss":
        """The objective's loss, with its options."""
        options = {name: value for name, value in self.objective.items() if name != "kind"}
        return OBJECTIVES[self.objective["kind"]](**options)


@dataclass(frozen=True)
class TrainingResult:
    """The result of training.

    Attributes
    ----------
    sampler : the sampler with the weights that were to be kept.
    best_step : the step of the best validation.
    best_loss : its loss.
    last_step : the last step done, smaller than `steps` after early stopping.
    curves : rows of `step`, `split`, `loss` and anything else the objective measures, and `learning_rate`, in the
        order of steps.
    """

    sampler: AdaptiveSampler
    best_step: int
    best_loss: float
    last_step: int
    curves: list[Row]


@dataclass
class TrainingProgress:
    """The state of a run besides weights and optimizer: what a checkpoint stores as JSON."""

    fingerprint: str
    step: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    evaluations_without_improvement: int = 0
    curves: list[Row] = field(default_factory=list)

    def finished(self, settings: TrainingSettings) -> bool:
        patience = settings.patience
        return self.step >= settings.steps or (
            patience is not None and self.evaluations_without_improvement >= patience
        )


def train(
    sampler: AdaptiveSampler,
    train_steps: TokenSteps,
    validation_steps: TokenSteps,
    settings: TrainingSettings,
    folder: Path,
    log: Callable[[Row], None] | None = None,
) -> TrainingResult:
    """Train `sampler` in place, on its device; it adopts the range of the log-probabilities.

    A checkpoint in `folder/checkpoint` from the same data, settings and initial weights is resumed, and training then
    gives the same result as without the interruption; any other is replaced.

    Parameters
    ----------
    sampler : the sampler with its initial weights.
    train_steps : token-steps to learn from, or other data that the objective needs.
    validation_steps : those that choose the best weights and stop training early.
    settings : how to train.
    folder : where `checkpoint/` and `tensorboard/` are kept.
    log : called with every row of the curves, in blocks before each checkpoint.

    Raises
    ------
    UserError
        There are no token-steps, or the loss is not finite.
    """
    for name, steps in (("training", train_steps), ("validation", validation_steps)):
        if not len(steps):
            raise UserError(f"no {name} token-steps: select more answers (scoring.top_k) or prompts of this split")

    sampler.lowest_log_prob = lowest_log_prob(train_steps)
    optimizer, loss = make_optimizer(sampler, settings), settings.loss
    best_weights = copy.deepcopy(sampler.state_dict())
    checkpoint = folder / "checkpoint" / "checkpoint.safetensors"
    fingerprint = run_fingerprint(sampler, train_steps, validation_steps, settings)
    state = load_checkpoint(checkpoint, fingerprint, sampler, optimizer, best_weights)
    if state is None:
        state = TrainingProgress(fingerprint)
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)

    batches = BatchOrder(len(train_steps), settings.batch_size, settings.seed)
    waiting: list[tuple[int, float, Any]] = []
    with (
        SummaryWriter(str(folder / "tensorboard"), purge_step=state.step + 1) as writer,
        progress(
            total=settings.steps,
            initial=state.step,
            description=f"training {type(sampler).__name__}",
            unit="step",
        ) as bar,
    ):

        def validate_and_save() -> None:
            """Measure, remember the best weights, report and write the checkpoint."""
            rows = [curve_row(step, "train", rate, terms) for step, rate, terms in waiting]
            waiting.clear()
            measured = evaluate(sampler, validation_steps, loss)
            rate = learning_rate_at(state.step, settings)
            rows.append({"step": state.step, "split": "validation", **measured, "learning_rate": rate})
            report(rows, writer, log)
            state.curves.extend(rows)
            if measured["loss"] < state.best_loss:
                state.best_loss, state.best_step = measured["loss"], state.step
                state.evaluations_without_improvement = 0
                for name, tensor in sampler.state_dict().items():
                    best_weights[name].copy_(tensor)
            else:
                state.evaluations_without_improvement += 1
            bar.set_postfix_str(f"validation loss {measured['loss']:.4f}", refresh=False)
            save_checkpoint(checkpoint, state, sampler, optimizer, best_weights)

        if not state.curves:
            validate_and_save()
        while not state.finished(settings):
            batch = train_steps.select(batches.at(state.step), device_of(sampler))
            rate = learning_rate_at(state.step, settings)
            preference = preference_at(state.step, settings.seed) if sampler.takes_preference else None
            terms = training_step(sampler, optimizer, batch, loss, rate, settings, preference)
            state.step += 1
            waiting.append((state.step, rate, terms))
            bar.update()
            if state.step % settings.evaluate_every == 0 or state.step == settings.steps:
                validate_and_save()

    if settings.keep == "best":
        sampler.load_state_dict(best_weights)
    sampler.eval()
    return TrainingResult(sampler, state.best_step, state.best_loss, state.step, state.curves)


def lowest_log_prob(steps: TokenSteps) -> float:
    """The smallest log-probability of a token in token-steps, nats. Banned tokens are not counted."""
    lowest = 0.0
    # Token-steps may not fit in memory.
    for start in range(0, len(steps), STEPS_AT_ONCE):
        t, n = steps.t[start : start + STEPS_AT_ONCE], steps.n[start : start + STEPS_AT_ONCE]
        lowest = min(lowest, float(t.masked_fill((n <= 0) | (t < -BANNED_DEPTH), 0.0).amin()))
    return lowest


def training_step(
    sampler: AdaptiveSampler,
    optimizer: torch.optim.Optimizer,
    batch: TokenSteps,
    loss: "Loss",
    learning_rate: float,
    settings: TrainingSettings,
    preference: float | None = None,
) -> Any:
    """One optimizer step, at a preference if the sampler takes one; the loss's terms before it, without gradient."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    terms = loss(Predictor(sampler, preference, settings.precision), batch)
    optimizer.zero_grad()
    terms.loss.backward()
    torch.nn.utils.clip_grad_norm_(sampler.parameters(), settings.gradient_clip)
    optimizer.step()
    return type(terms)(*(term.detach() for term in terms))


@dataclass(frozen=True)
class Predictor:
    """A sampler as losses call it, at a preference if it takes one."""

    sampler: AdaptiveSampler
    preference: float | None
    precision: str = "float32"

    def __call__(self, t: Tensor, n: Tensor) -> Tensor:
        chosen = () if self.preference is None else (self.preference,)
        low = self.precision == "bfloat16"
        with torch.autocast(device_of(self.sampler).type, torch.bfloat16, enabled=low):
            return self.sampler(t, n, *chosen).float()


def preference_at(step: int, seed: int) -> float:
    """The preference at which a step is taken, a function of seed and step, so that resuming needs no stored state.

    They cover the range evenly even in a few steps, as multiples of the golden ratio do. A sixth of the steps is at
    each end: fronts are asked for there most, and a network extrapolates badly.
    """
    begin = np.random.default_rng([seed, 1]).random()
    evenly = (begin + step * (math.sqrt(5) - 1) / 2) % 1
    return min(max(1.5 * evenly - 0.25, 0.0), 1.0)


def learning_rate_at(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then a cosine that ends at 0 after the last step."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share_done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * (1 + math.cos(math.pi * share_done)) / 2


def make_optimizer(sampler: AdaptiveSampler, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW that decays weight matrices only: decay would shift a bias or a truncation threshold."""
    parameters = list(sampler.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )


class BatchOrder:
    """Which token-steps each step takes: one permutation after another, each a function of seed and epoch.

    The order is not drawn step by step, so resuming needs no stored state.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def at(self, step: int) -> Tensor:
        """Indices of the token-steps of a step, `[batch_size]` int64."""
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = np.divmod(positions, self.size)
        parts = [self._epoch_order(epoch)[places[epochs == epoch]] for epoch in np.unique(epochs)]
        return torch.from_numpy(np.concatenate(parts))

    def _epoch_order(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng([self.seed, epoch]).permutation(self.size)
        return self._permutation


def evaluate(
    sampler: AdaptiveSampler, steps: TokenSteps, loss: "Loss", batch_size: int | None = None
) -> dict[str, float]:
    """Means over token-steps of a sampler's `loss` and its other terms, as `kl` (nats) and `truncated_mass`.

    Of a sampler that takes a preference, these are the means of what `evaluate_at_preferences` gives.
    """
    if not sampler.takes_preference:
        return _mean_terms(sampler, steps, loss, batch_size, device_of(sampler))
    return mean_of_preferences(evaluate_at_preferences(sampler, steps, loss, batch_size))


def mean_of_preferences(measured: dict[str, dict[str, float]]) -> dict[str, float]:
    """Means over preferences of what `evaluate_at_preferences` gives."""
    by_preference = [*measured.values()]
    return {name: sum(terms[name] for terms in by_preference) / len(by_preference) for name in by_preference[0]}


def evaluate_at_preferences(
    sampler: AdaptiveSampler, steps: TokenSteps, loss: "Loss", batch_size: int | None = None
) -> dict[str, dict[str, float]]:
    """The same at each of some preferences, by these, of a sampler that takes one; nothing of any other."""
    return {
        f"{preference:g}": _mean_terms(Predictor(sampler, preference), steps, loss, batch_size, device_of(sampler))
        for preference in (MEASURED_PREFERENCES if sampler.takes_preference else ())
    }


def evaluate_identity(steps: TokenSteps, loss: "Loss", batch_size: int | None = None) -> dict[str, float]:
    """The same for the raw logits, by names such as `identity_loss`."""
    terms = _mean_terms(lambda t, n: t, steps, loss, batch_size, steps.t.device)
    return {f"identity_{name}": value for name, value in terms.items()}


@torch.no_grad()
def _mean_terms(
    predict: "Predict",
    steps: TokenSteps,
    loss: "Loss",
    batch_size: int | None,
    device: torch.device,
) -> dict[str, float]:
    if not len(steps):
        raise UserError("no token-steps to evaluate on")
    batch_size = batch_size or steps.measured_together
    sums = torch.zeros((), dtype=torch.float64, device=device)
    for start in range(0, len(steps), batch_size):
        batch = steps.select(slice(start, start + batch_size), device)
        terms = loss(predict, batch)
        sums = sums + torch.stack(terms).double() * len(batch)
    return dict(zip(terms._fields, (sums / len(steps)).tolist(), strict=True))


def curve_row(step: int, split: str, learning_rate: float, terms: Any) -> Row:
    """A row of the loss curves."""
    values = {name: float(value) for name, value in terms._asdict().items()}
    return {"step": step, "split": split, **values, "learning_rate": learning_rate}


def report(rows: list[Row], writer: SummaryWriter, log: Callable[[Row], None] | None) -> None:
    """Send rows of the curves to TensorBoard and to `log`; stop if the loss is no longer a number."""
    for row in rows:
        if not math.isfinite(row["loss"]):
            raise UserError(
                f"the {row['split']} loss at step {row['step']} is {row['loss']}: lower training.learning_rate, "
                "or check that every training target keeps a token"
            )
        for name, value in row.items():
            if name not in ("step", "split"):
                writer.add_scalar(f"{name}/{row['split']}", value, row["step"])
        if log is not None:
            log(row)


def device_of(sampler: AdaptiveSampler) -> torch.device:
    """The device that the sampler's parameters are on."""
    return next(sampler.parameters()).device


def run_fingerprint(
    sampler: AdaptiveSampler,
    train_steps: TokenSteps,
    validation_steps: TokenSteps,
    settings: TrainingSettings,
) -> str:
    """A hash of everything that determines a run's outcome."""
    weights = blake2b()
    for tensor in sampler.state_dict().values():
        weights.update(tensor.contiguous().cpu().numpy().data)
    return content_id(
        {
            "version": STAGE_VERSIONS["train_sampler"],
            "config": sampler.config,
            "weights": weights.hexdigest(),
            "settings": asdict(settings),
            "train": train_steps.fingerprint(),
            "validation": validation_steps.fingerprint(),
        },
        length=32,
    )


def save_checkpoint(
    path: Path,
    state: TrainingProgress,
    sampler: AdaptiveSampler,
    optimizer: torch.optim.Optimizer,
    best_weights: dict[str, Tensor],
) -> None:
    """Write weights, best weights, optimizer, and progress as JSON metadata: one safetensors file, atomically."""
    tensors = {f"weights.{name}": tensor for name, tensor in sampler.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best_weights.items()}
    for name, parameter in sampler.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    save_tensors(tensors, path, {"progress": json.dumps(asdict(state))})


def load_checkpoint(
    path: Path,
    fingerprint: str,
    sampler: AdaptiveSampler,
    optimizer: torch.optim.Optimizer,
    best_weights: dict[str, Tensor],
) -> TrainingProgress | None:
    """Restore a run into `sampler`, `optimizer` and `best_weights`; None if there is none to resume."""
    if not path.is_file():
        return None
    tensors, metadata = load_tensors(path, device_of(sampler))
    state = TrainingProgress(**json.loads(metadata["progress"]))
    if state.fingerprint != fingerprint:
        return None
    parameters = dict(sampler.named_parameters())
    weights = {}
    for stored, tensor in tensors.items():
        kind, name = stored.split(".", 1)
        if kind == "weights":
            weights[name] = tensor
        elif kind == "best":
            best_weights[name].copy_(tensor)
        else:
            key, name = name.split(".", 1)
            # AdamW keeps its step counts on the CPU, wherever the parameters are.
            optimizer.state[parameters[name]][key] = tensor.cpu() if key == "step" else tensor
    sampler.load_state_dict(weights)
    return state
