"""Candidates: every prompt answered under every heuristic and seed, shard by shard."""

import heapq
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adaptive_samplers.config.model import Config
from adaptive_samplers.engines.base import Completion, Engine, Request, sampler_hashes
from adaptive_samplers.engines.registry import ENGINE_PACKAGES
from adaptive_samplers.errors import ConversationRefused, UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics import Pipeline, parse_processors, split_prompted
from adaptive_samplers.partfile import PartFile
from adaptive_samplers.progress import progress
from adaptive_samplers.provenance import versions
from adaptive_samplers.randomness import sample_seed
from adaptive_samplers.stage import say
from adaptive_samplers.tables import KEY, read_batches, read_metadata, table_writer, to_arrow
from adaptive_samplers.verbalized.asking import Asking, PromptedRequest
from adaptive_samplers.verbalized.parsing import UNPARSED
from adaptive_samplers.versions import STAGE_VERSIONS

if TYPE_CHECKING:
    from adaptive_samplers.off_policy.recorder import DrawRecorder

ROWS_PER_WRITE = 10_000
# What the table and the part file keep of a completion.
ANSWER_COLUMNS = [field.name for field in fields(Completion) if field.name not in ("index", "draws")]


@dataclass(frozen=True)
class GenerationSettings:
    """What an answer depends on, besides its own key and the model."""

    run_seed: int
    max_new_tokens: int | dict[str, int]  # one number, or one per kind of prompt
    stop: tuple[str, ...]
    dtype: str

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The settings in a config, or in the slice of it that a rule gets."""
        limit, stop = config.generation.max_new_tokens, tuple(config.generation.stop)
        by_kind = limit if isinstance(limit, int) else limit.model_dump()
        return cls(config.run.seed, by_kind, stop, config.model.dtype)

    def limit(self, kind: str) -> int:
        """The longest answer to a prompt of this kind, in tokens."""
        return self.max_new_tokens if isinstance(self.max_new_tokens, int) else self.max_new_tokens[kind]


def shard_of(prompts: pd.DataFrame, shard: int, shards: int) -> pd.DataFrame:
    """The prompts of one shard: consecutive in the order of their ids, so that shards in order keep that order."""
    ordered = prompts.sort_values("prompt_id")
    size, rest = divmod(len(ordered), shards)
    start = shard * size + min(shard, rest)
    return ordered.iloc[start : start + size + (shard < rest)]


def allocated_keys(allocation: Path, prompt_ids: Set[str], seed: int) -> set[tuple[str, str, int]]:
    """The keys of an `allocation` table with these prompts and this seed.

    Raises
    ------
    UserError
        If the table cannot be read.
    """
    wanted = pa.array(sorted(prompt_ids), pa.string())
    keys: set[tuple[str, str, int]] = set()
    for batch in read_batches("allocation", allocation, KEY):
        batch = batch.filter(pc.and_(pc.equal(batch["seed"], seed), pc.is_in(batch["prompt_id"], wanted)))
        keys.update(zip(*(batch[column].to_pylist() for column in KEY), strict=True))
    return keys


def generate(
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    seeds: Sequence[int],
    engine: Engine,
    model_hash: str,
    settings: GenerationSettings,
    output: Path,
    rows: Set[tuple[str, str, int]] | None = None,
    others: Sequence[Path] = (),
    recorder: "DrawRecorder | None" = None,
) -> None:
    """Sample every (prompt, heuristic, seed) and write the `candidates` table, ordered by seed, prompt and heuristic.

    If `rows` are given, only these keys are sampled.

    Finished answers are kept in a part file, so that a killed job continues where it stopped. If `output` or any of the
    `others` already exists, from the same model and settings, its answers are reused: a new heuristic costs only its
    own answers. Answers of a learned sampler that was retrained are not reused.

    A `recorder` writes what the answers drew from which distributions, too.
    """
    generate_tables(prompts, {output: heuristics}, seeds, engine, model_hash, settings, rows, others, recorder)


def generate_tables(
    prompts: pd.DataFrame,
    heuristics: Mapping[Path, pd.DataFrame],
    seeds: Sequence[int],
    engine: Engine,
    model_hash: str,
    settings: GenerationSettings,
    rows: Set[tuple[str, str, int]] | None = None,
    others: Sequence[Path] = (),
    recorder: "DrawRecorder | None" = None,
) -> None:
    """Do what `generate` does for several tables, given the heuristics of each by its path.

    The engine is asked for the answers of all tables together, so that they share its work on a prompt. Each table is
    what `generate` would write for it alone, and reuses its own earlier answers.
    """
    encoded = {row.prompt_id: _encoded(engine, json.loads(row.messages)) for row in prompts.itertuples()}
    fingerprint = content_id([STAGE_VERSIONS["generate_candidates"], engine.name, model_hash, asdict(settings)])
    with ExitStack() as stack:
        tables = []
        for output, of_table in heuristics.items():
            pipelines = {row.heuristic_id: parse_processors(row.processors) for row in of_table.itertuples()}
            asked = _asked(prompts, encoded, pipelines, seeds, engine, settings, rows, recorder)
            # Hashes of the weights of learned samplers, by the heuristics that have any.
            hashes = {name: sampler_hashes([pipeline]) for name, pipeline in pipelines.items()}
            weights = {name: content_id(of_chain) for name, of_chain in hashes.items() if of_chain}
            part = stack.enter_context(PartFile(output, content_id([fingerprint, weights])))
            earlier = (row for path in (output, *others) for row in _earlier_rows(path, fingerprint, weights))
            made_by = {"fingerprint": fingerprint, "weights": json.dumps(weights)}
            tables.append(_Table(output, asked, part, _take_over(part, asked, earlier), made_by))
        _answer(tables, seeds, engine, recorder)
        for table in tables:
            _measure_drawn(table.part, table.asked, engine)
        for table in tables:
            _write_candidates(table, engine.name)
            if recorder is not None:
                recorder.write(table.output, prompts, heuristics[table.output], engine.decode, settings.stop)
        # Only now: if a table cannot be written, Snakemake takes back those before it.
        for table in tables:
            table.part.remove()


@dataclass
class _Asked:
    """What the engine is asked: a key and a request for each row of the table, in table order.

    Attributes
    ----------
    prompted : by index, for answers drawn from a reply, what is asked instead of the request.
    refused : by index, why the model cannot be asked.
    with_replies : whether the table has a column for replies.
    """

    keys: list[tuple[str, str, int]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    prompted: dict[int, PromptedRequest] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    with_replies: bool = False

    def sent(self, place: int) -> Request:
        """The request that the engine gets."""
        return self.prompted[place].sent if place in self.prompted else self.requests[place]


@dataclass(frozen=True)
class _Table:
    """A table in the making.

    Attributes
    ----------
    done : the indices of rows that the part file had before.
    made_by : what the table's metadata says of its answers.
    """

    output: Path
    asked: _Asked
    part: PartFile
    done: set[int]
    made_by: Mapping[str, str]

    def fail(self, place: int, reason: str) -> None:
        """Add the row of a request that cannot be asked or got no answer."""
        self.part.append({"key": self.asked.keys[place], **_answer_columns(Completion(place, error=reason))})


def _asked(
    prompts: pd.DataFrame,
    encoded: Mapping[str, tuple[tuple[int, ...], str | None]],
    pipelines: Mapping[str, Pipeline],
    seeds: Sequence[int],
    engine: Engine,
    settings: GenerationSettings,
    rows: Set[tuple[str, str, int]] | None,
    recorder: "DrawRecorder | None",
) -> _Asked:
    """The requests for every seed, prompt and heuristic, or for those of `rows`; `encoded` holds prompts' tokens."""
    asking = {name: Asking.of(step) for name, chain in pipelines.items() if (step := split_prompted(chain)[0])}
    ordered = list(prompts.sort_values("prompt_id").itertuples())
    asked = _Asked()
    for seed, prompt, heuristic_id in itertools.product(seeds, ordered, sorted(pipelines)):
        key = (prompt.prompt_id, heuristic_id, seed)
        if rows is not None and key not in rows:
            continue
        place = len(asked.keys)
        token_ids, reason = encoded[prompt.prompt_id]
        request = Request(
            prompt_token_ids=token_ids,
            pipeline=split_prompted(pipelines[heuristic_id])[1],
            sample_seed=sample_seed(settings.run_seed, prompt.prompt_id, seed),
            max_new_tokens=settings.limit(prompt.kind),
            stop=settings.stop,
            recording=recorder.recording_for(prompt.split) if recorder and heuristic_id not in asking else None,
        )
        if heuristic_id in asking:
            asked.with_replies = True
            if reason is None:
                token_ids, reason = _encoded(engine, asking[heuristic_id].messages(json.loads(prompt.messages)))
                asked.prompted[place] = PromptedRequest.of(asking[heuristic_id], request, token_ids)
        if reason is not None:
            asked.refused[place] = reason
        asked.keys.append(key)
        asked.requests.append(request)
    return asked


def _take_over(part: PartFile, asked: _Asked, earlier: Iterable[dict[str, Any]]) -> set[int]:
    """Add rows of earlier outputs that the part file lacks; return the indices of all rows it then has."""
    places = {key: place for place, key in enumerate(asked.keys)}
    done = {places[key] for row in part.rows() if (key := (*row["key"],)) in places}
    for row in earlier:
        if (key := (*row["key"],)) in places and places[key] not in done:
            part.append(row)
            done.add(places[key])
    return done


def _answer(tables: Sequence[_Table], seeds: Sequence[int], engine: Engine, recorder: "DrawRecorder | None") -> None:
    """Have the engine answer what is not done yet. Requests that cannot be asked or get no answer have failed."""
    total, done = sum(len(table.asked.keys) for table in tables), sum(len(table.done) for table in tables)
    if done:
        say(f"{done} of {total} answers were finished before; going on with the rest")
    left = []
    for table in tables:
        for place in table.asked.refused.keys() - table.done:
            table.fail(place, table.asked.refused[place])
            done += 1
        skipped = table.done | table.asked.refused.keys()
        left.append([(table, place) for place in range(len(table.asked.keys)) if place not in skipped])
    # Requests of all tables for one prompt and seed are adjacent, as in a single table.
    order = {seed: number for number, seed in enumerate(seeds)}

    def position(one: tuple[_Table, int]) -> tuple[int, str]:
        prompt_id, _, seed = one[0].asked.keys[one[1]]
        return order[seed], prompt_id

    sent = list(heapq.merge(*left, key=position))
    lost = set(range(len(sent)))
    with progress(total=total, initial=done, description="answers", unit=" answers") as bar:
        for completion in engine.generate([table.asked.sent(place) for table, place in sent]):
            lost.discard(completion.index)
            table, place = sent[completion.index]
            row: dict[str, Any] = {"key": table.asked.keys[place]}
            if place in table.asked.prompted:
                completion, reply = table.asked.prompted[place].answer(completion, engine)
                row["reply"] = None if reply is None else reply.describe()
            table.part.append(row | _answer_columns(completion))
            if recorder is not None:
                recorder.add(table.asked.requests[place], completion)
            bar.update()
    for index in lost:
        table, place = sent[index]
        table.fail(place, "the engine gave no answer")


def _encoded(engine: Engine, messages: list[dict[str, str]]) -> tuple[tuple[int, ...], str | None]:
    """The tokens of a conversation, or none and why the model cannot be asked."""
    try:
        return tuple(engine.encode_chat(messages)), None
    except ConversationRefused as error:
        return (), str(error)


def _measure_drawn(part: PartFile, asked: _Asked, engine: Engine) -> None:
    """Add the rows of answers that were drawn from replies again, with their log-probabilities given the plain prompt.

    If rows have the same key, the last one counts.
    """
    if not asked.prompted:
        return
    plain = {asked.keys[place]: prompted.plain for place, prompted in asked.prompted.items()}
    drawn = {key: row for row in part.rows() if (key := (*row["key"],)) in plain}
    left = [row for row in drawn.values() if row["finish_reason"] != "error" and row["token_logprobs"] is None]
    requests = [Request.reading(plain[*row["key"],].prompt_token_ids, row["token_ids"]) for row in left]
    measured = {completion.index: completion for completion in engine.generate(requests)} if left else {}
    for index, row in enumerate(left):
        found = measured.get(index, Completion(index, error="the engine gave no answer"))
        if found.finish_reason == "error":
            error = f"the log-probabilities of the answer that was drawn could not be measured: {found.error}"
            part.append(row | _answer_columns(Completion(index, error=error)))
        else:
            part.append(row | {"token_logprobs": found.token_logprobs, "end_logprobs": found.end_logprobs})


def _answer_columns(completion: Completion) -> dict[str, Any]:
    return {name: getattr(completion, name) for name in ANSWER_COLUMNS}


def _earlier_rows(output: Path, fingerprint: str, weights: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The answers of an earlier output with the same fingerprint and the same weights, as rows of the part file."""
    if not output.exists():
        return
    try:
        made_by = read_metadata("candidates", output)
        if made_by.get(b"fingerprint") != fingerprint.encode():
            return
        earlier_weights = json.loads(made_by[b"weights"])
        with_replies = "reply" in pq.read_schema(output).names
        table = "candidates_with_replies" if with_replies else "candidates"
        for batch in read_batches(table, output, [*KEY, *ANSWER_COLUMNS, *["reply"] * with_replies]):
            for row in batch.to_pylist():
                if earlier_weights.get(row["heuristic_id"]) != weights.get(row["heuristic_id"]):
                    continue
                # A failure is worth retrying, but a reply would be the same again.
                if row["finish_reason"] != "error" or row["error"].startswith(UNPARSED):
                    yield {"key": [row.pop(column) for column in KEY], **row}
    except (OSError, pa.ArrowInvalid, UserError) as error:
        say(f"{output} is damaged ({error}); the answers that cannot be read are made again")


def _write_candidates(made: _Table, engine_name: str) -> None:
    """Sort the part file's rows and write them to Parquet, a part at a time."""
    asked = made.asked
    offsets: dict[tuple, int] = {}
    with open(made.part.path, "rb") as file:
        file.readline()
        offset = file.tell()
        for line in file:
            offsets[tuple(json.loads(line)["key"])] = offset
            offset += len(line)
        table = "candidates_with_replies" if asked.with_replies else "candidates"
        with table_writer(table, made.output) as writer:
            writer.add_key_value_metadata({**made.made_by, "versions": json.dumps(versions(*ENGINE_PACKAGES))})
            for start in range(0, len(asked.keys), ROWS_PER_WRITE):
                rows, end = [], start + ROWS_PER_WRITE
                for key, request in zip(asked.keys[start:end], asked.requests[start:end], strict=True):
                    file.seek(offsets[key])
                    row = json.loads(file.readline())
                    del row["key"]
                    if asked.with_replies:
                        row.setdefault("reply")
                    else:
                        row.pop("reply", None)
                    rows.append(
                        {
                            **dict(zip(KEY, key, strict=True)),
                            **row,
                            "prompt_token_ids": request.prompt_token_ids,
                            "sample_seed": request.sample_seed,
                            "engine": engine_name,
                        }
                    )
                writer.write_table(to_arrow(table, rows))


def recorded_engines(shards: Sequence[Path]) -> list[dict[str, Any]]:
    """The engines that answered, each once, and the versions installed where their answers were last written.

    Returns
    -------
    list of `{engine, versions}`
        In the order of shards; `versions` is null if an answer file predates this record.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in shards:
        text = read_metadata("candidates", path).get(b"versions")
        known = None if text is None else {k: v for k, v in json.loads(text).items() if v != "not installed"}
        for batch in read_batches("candidates", path, ["engine"]):
            for name in batch["engine"].unique().to_pylist():
                found.setdefault(content_id([name, known]), {"engine": name, "versions": known})
    return list(found.values())
