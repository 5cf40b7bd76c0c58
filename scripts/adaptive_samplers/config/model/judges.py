"""Judges, which compare two answers."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator

from adaptive_samplers.config.fields import Section, key, section
from adaptive_samplers.config.model.generation import VLLM, SGLang
from adaptive_samplers.config.model.sources import FetchedModel
from adaptive_samplers.config.model.types import DEVICE, NAME, DataType, JudgeEngineName, JudgeFeature, Text
from adaptive_samplers.labels.judges.registry import DEFAULT_FEATURES


class FeatureRewardSettings(Section):
    """The embedded judge, which the run itself trains."""

    kind: Literal["feature_reward"] = key(
        "`feature_reward` is a Bradley-Terry reward over a few features of an answer, such as relevance and mean "
        "log-probability. `scalar` is a reward model that rates each answer, "
        "`pairwise` a language model that is asked which of two answers is better, `likelihood` a language model "
        "whose log-probabilities rate each answer, and `endpoint` a pairwise judge behind an OpenAI-compatible "
        "API."
    )
    name: str = key(
        "The judge's own name, for tables and reports; needed where there are several of this kind.",
        default="feature_reward",
        affects=(),
        **NAME,
    )
    features: list[JudgeFeature] = key(
        "What the judge knows of an answer: `relevance` (the embedder's cosine with the prompt), `mean_logprob` and "
        "`end_logprob` (log-probabilities of the answer and of its end under the base model), `distinct_2` (share of "
        "distinct word pairs), `word_variety` (of distinct words in windows of 20), `finished` (whether it ends where "
        "a sentence does). Leave the two log-probabilities out for a judge that does not reward likelihood as such "
        "(docs/judges.md).",
        default=list(DEFAULT_FEATURES),
        min_length=1,
        unique=True,
        affects=("train_judge",),
    )
    pairs: str = key(
        "JSON lines with pairs of a better and a worse answer that train the judge, relative to the working directory.",
        default="resources/judge_pairs.jsonl",
        min_length=1,
        path=True,
        affects=("train_judge",),
    )
    regularization: float = key(
        "L2 penalty on the judge's coefficients, above 0.", default=2.0, gt=0, affects=("train_judge",)
    )


class ModelJudgeSettings(FetchedModel):
    """A judge with a model of its own."""

    dtype: DataType = key("Number format in which the judge computes.", default="float32")
    device: str = key(
        "Where the judge computes; `auto` takes a GPU if there is one.", default="auto", affects=(), **DEVICE
    )
    max_length: int | None = key(
        "Longest call in tokens; longer ones fail. `null` takes the model's context less 8 tokens.",
        default=None,
        ge=1,
        le=100000000,
    )
    batch_size: int = key(
        "Calls in a batch of the engine `transformers`; fewer need less memory.",
        default=16,
        ge=1,
        le=100000,
        affects=(),
    )
    engine: JudgeEngineName = key(
        "The judge's inference engine: `transformers` in the job's own process, on CPU or GPU, or a server, `sglang` "
        "or `vllm` (docs/serving.md).",
        default="transformers",
    )
    sglang: SGLang = section(SGLang, affects=())
    vllm: VLLM = section(VLLM, affects=())


class Question(Section):
    """How a language model is asked which of two answers is better."""

    template: str = key(
        "The user message to the judge. It must contain `{prompt}`, `{first_answer}` and `{second_answer}`; "
        "`{first_label}` and `{second_label}` stand for the labels.",
        default="Two assistants answered the user below. Judge which answer is better.\n"
        "The better one is more helpful, relevant, correct and well written, and closer to what was asked.\n"
        "Neither the order of the answers nor their length matters in itself.\n"
        "Reply with {first_label} if assistant {first_label} is better, or {second_label} if assistant\n"
        "{second_label} is, and with nothing else.\n"
        "\n"
        "[User Question]\n"
        "{prompt}\n"
        "\n"
        "[The Start of Assistant {first_label}'s Answer]\n"
        "{first_answer}\n"
        "[The End of Assistant {first_label}'s Answer]\n"
        "\n"
        "[The Start of Assistant {second_label}'s Answer]\n"
        "{second_answer}\n"
        "[The End of Assistant {second_label}'s Answer]\n"
        "\n"
        "#Preferred:",
        min_length=1,
    )
    labels: list[Text] = key(
        "The two replies: the first answer shown is better, or the second. Each must be one token of the judge.",
        default=["A", "B"],
        unique=True,
    )
    order: Literal["both", "one"] = key(
        "`both` asks in both orders and takes the mean, so that a preference for a position cancels; `one` asks "
        "once, at half the cost, in an order that the tournament balances and draws.",
        default="both",
    )


class ScalarSettings(ModelJudgeSettings):
    """A reward model that rates each answer."""

    kind: Literal["scalar"] = key("A reward model.")


class PairwiseSettings(Question, ModelJudgeSettings):
    """A language model that is shown two answers."""

    kind: Literal["pairwise"] = key("A language model that compares answers.")


class LikelihoodWeights(Section):
    """The reward is the weighted sum of these log-probabilities, in nats (docs/judges.md)."""

    answer: float = key("Weight of the mean log-probability of the answer's tokens, given the prompt.", default=1.0)
    end: float = key("Weight of the log-probability that the answer ends where it does.", default=0.5)
    unconditional: float = key(
        "Weight of the mean log-probability of the answer's tokens, given an empty question; one more call "
        "unless 0. The opposite of `answer` gives pointwise mutual information.",
        default=0.0,
    )
    question: float = key(
        "Weight of the mean log-probability of the question's tokens, given the answer; one more call unless 0.",
        default=0.0,
    )


class LikelihoodSettings(ModelJudgeSettings):
    """A language model whose log-probabilities rate each answer."""

    kind: Literal["likelihood"] = key("A language model that reads answers.")
    weights: LikelihoodWeights = section(LikelihoodWeights)


class EndpointSettings(Question):
    """A language model behind an OpenAI-compatible API, which is shown two answers."""

    kind: Literal["endpoint"] = key("A language model behind an API.")
    name: str = key("The judge's own name, for tables and reports.", affects=(), **NAME)
    base_url: str = key(
        "Address of the API, such as `https://api.openai.com/v1` or `http://node17:8000/v1`.",
        pattern="https?://[^/@]+(/[^@?#]*)?",
        allowed="an address such as https://api.openai.com/v1, without a name or password",
        affects=(),
    )
    model: str = key("The model's name on the server.", min_length=1)
    api_key_variable: str | None = key(
        "Environment variable that holds the server's key, which is never stored; `null` if it needs none.",
        default=None,
        pattern="[A-Za-z_][A-Za-z0-9_]*",
        allowed="the name of an environment variable, or null",
        affects=(),
    )
    top_logprobs: int = key(
        "Number of alternatives to the first token that are requested, with log-probabilities; 0 if the server "
        "gives none, so that outcomes are 0 or 1.",
        default=20,
        ge=0,
        le=20,
    )
    max_tokens: int = key("Longest reply in tokens.", default=16, ge=1, le=1000000)
    request: dict[str, Any] = key(
        "Further fields of each request, such as `{seed: 1}`; `null` removes one, as in `{max_tokens: null, "
        "max_completion_tokens: 2000, temperature: null}` for a reasoning model.",
        default={},
        allowed="a map of what a chat completion's request may hold",
    )
    concurrency: int = key("Requests in flight at once, per job.", default=16, ge=1, le=100000, affects=())
    request_timeout: float = key(
        "Seconds that a request may take before it is sent again.", default=120.0, gt=0, le=604800, affects=()
    )
    requests_per_second: float | None = key(
        "Maximum number of requests per second, per job; `null` sets no limit.", default=None, gt=0, affects=()
    )


JudgeSettings = Annotated[
    FeatureRewardSettings | ScalarSettings | PairwiseSettings | LikelihoodSettings | EndpointSettings,
    Discriminator("kind"),
]
