"""How a sampler learns from answers of its own."""

from adaptive_samplers.config.fields import Section, key


class OnPolicy(Section):
    """The target `on_policy`: a learned sampler goes on learning from answers of its own, for which the language model
    writes new ones in every step, and verifiers alone judge them: other labels compare with answers of other samplers,
    or of all seeds (docs/what_to_train_on.md)."""

    sampler: str | None = key(
        "The sampler to begin with, `{architecture}/{weights}_top{k}` as in `results/{run}/samplers/`; `null`: the "
        "run's first.",
        default=None,
        min_length=1,
        affects=(),
    )
    steps: int = key("How often the sampler answers and is updated.", default=100, ge=1, le=1000000)
    prompts: int = key(
        "Prompts with a verifier that are answered in each step, of the train split.", default=16, ge=1, le=100000
    )
    answers: int = key("Answers to each prompt, which are compared with one another.", default=8, ge=2, le=100000)
    updates: int = key("Updates from the answers of a step.", default=4, ge=1, le=1000)
    clip: float = key(
        "A drawn token that has become more or less probable by more than this share is not moved further.",
        default=0.2,
        gt=0,
        lt=1,
    )
    kl: float = key(
        "What the divergence from the sampler that training began with costs, for each nat of a whole answer; a right "
        "answer is worth 1.",
        default=0.001,
        ge=0,
    )
    learning_rate: float = key("Learning rate, above 0 and at most 1.", default=0.001, gt=0, le=1)
    evaluate_every: int = key("Steps between measurements on the validation split.", default=10, ge=1)
    evaluation_prompts: int = key(
        "Prompts of the validation split that are answered for that, always the same.", default=32, ge=1, le=100000
    )
