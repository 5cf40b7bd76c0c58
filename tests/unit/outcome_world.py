"""A world in which the worth of every sampler is known: distributions do not depend on the tokens before."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from adaptive_samplers.heuristics import Pipeline, apply_to_logits
from adaptive_samplers.off_policy.draws import RecordedDraws
from adaptive_samplers.off_policy.estimates import LoggedAnswers
from adaptive_samplers.off_policy.log_probs import equal_steps
from adaptive_samplers.off_policy.reading import Logged
from adaptive_samplers.samplers.base import AdaptiveSampler


@dataclass(frozen=True)
class World:
    """Prompts with the logits of each step, and what each token is worth there, `[P, L, V]` both."""

    logits: Tensor
    worth: Tensor

    @classmethod
    def drawn(cls, prompts: int, steps: int, seed: int, vocabulary: int = 300) -> "World":
        """Of a step, either the first token is worth something, or one of the next five; which it is shows in the
        first logit, so that no temperature suits all steps."""
        generator = torch.Generator().manual_seed(seed)
        ranks = torch.arange(vocabulary) + 1.0
        logits = -1.3 * ranks.log() + 0.3 * torch.randn(prompts, steps, vocabulary, generator=generator)
        sure = torch.rand(prompts, steps, generator=generator) < 0.5
        logits[..., 0] += torch.where(sure, 1.5, 0.5)
        order = logits.argsort(-1, descending=True).argsort(-1)
        worth = torch.where(sure[..., None], order == 0, (order > 0) & (order < 6)).float()
        return cls(logits, worth)

    def value(self, sampler: Pipeline | AdaptiveSampler) -> np.ndarray:
        """The expected reward of a sampler, by prompt: the mean over steps of what is drawn, `[P]`."""
        expected = (self._drawn_from(sampler) * self.worth.flatten(0, 1)).sum(-1)
        return expected.reshape(self.logits.shape[:2]).mean(1).numpy()

    def distance(self, sampler: Pipeline | AdaptiveSampler) -> np.ndarray:
        """The expected distance of two answers, the share of steps at which they differ, by prompt, `[P]`."""
        expected = 1 - (self._drawn_from(sampler) ** 2).sum(-1)
        return expected.reshape(self.logits.shape[:2]).mean(1).numpy()

    def _drawn_from(self, sampler: Pipeline | AdaptiveSampler) -> Tensor:
        """The probabilities of all tokens, of one step after another, `[P * L, V]` float64."""
        rows = self.logits.flatten(0, 1)
        if isinstance(sampler, AdaptiveSampler):
            with torch.no_grad():
                left = sampler.logits(rows, exact=True)
        else:
            left = apply_to_logits(rows, [sampler] * len(rows))
        return left.double().softmax(-1)

    def logged(
        self,
        behaviors: dict[str, Pipeline],
        seeds: int,
        seed: int,
        top: int = 40,
        tail: int = 16,
        embedded: bool = False,
        alike: bool = False,
    ) -> Logged:
        """Answers of several behaviors under several seeds; the vectors, if `embedded`, are as in `distance`.

        If they are `alike`, the same random numbers draw the answers of all behaviors under a seed.
        """
        generator = torch.Generator().manual_seed(seed)
        prompts, steps, _ = self.logits.shape
        drawn, rewards, names = [], [], list(behaviors.values())
        for prompt in range(prompts):
            uniforms = torch.rand(steps, seeds, generator=generator) if alike else None
            for pipeline in names:
                probabilities = apply_to_logits(self.logits[prompt], [pipeline] * steps).softmax(-1)
                if alike:
                    found = torch.searchsorted(probabilities.cumsum(-1), uniforms).T
                    tokens = found.clamp(max=self.logits.shape[-1] - 1)
                else:
                    tokens = torch.multinomial(probabilities, seeds, replacement=True, generator=generator).T
                drawn.append(tokens)
                rewards.append(self.worth[prompt].gather(1, tokens.T).mean(0))
        tokens = torch.cat(drawn)
        answers = len(tokens)
        per_prompt = len(names) * seeds
        number = torch.arange(answers) // per_prompt
        starts = torch.arange(answers + 1) * steps
        draws = RecordedDraws.from_logits(
            self.logits[number].flatten(0, 1), tokens.flatten(), top, tail, starts.tolist()
        )
        return Logged(
            LoggedAnswers(
                number.numpy(),
                np.tile(np.repeat(np.arange(len(names)), seeds), prompts),
                np.tile(np.arange(seeds), prompts * len(names)),
                torch.cat(rewards).double().numpy(),
                np.arange(answers),
            ),
            [f"p{prompt}" for prompt in range(prompts)],
            behaviors,
            draws,
            equal_steps(number.tolist(), draws.starts, tokens.flatten()),
            one_hot(tokens, self.logits.shape[-1]).flatten(1).float() / steps**0.5 if embedded else None,
        )
