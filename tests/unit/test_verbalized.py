"""Verbalized sampling: what is read in replies, which answer is drawn, and how candidates are made of it."""

import json
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.schema import config_schema
from adaptive_samplers.engines import Completion, Request
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.files import read_json
from adaptive_samplers.generation import GenerationSettings, generate
from adaptive_samplers.heuristics import expand_heuristics, parse_processors, split_prompted
from adaptive_samplers.heuristics.pipelines import TEMPLATE
from adaptive_samplers.pages import completeness_page
from adaptive_samplers.randomness import sample_seed
from adaptive_samplers.tables import KEY, read_table
from adaptive_samplers.verbalized import parse_verbalized
from adaptive_samplers.verbalized.asking import Asking, PromptedRequest, draw_number, drawn_place
from adaptive_samplers.verbalized.parsing import UNPARSED
from adaptive_samplers.verification import verify_candidates

HALVES = [("Paris", 0.5), ("Lyon", 0.5)]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        # JSON
        ('[{"text": "Paris", "probability": 0.2}, {"text": "Lyon", "probability": 0.2}]', HALVES),
        (
            'Sure:\n```json\n{"responses": [{"Answer": "Paris", "prob": "30%"}, {"text": "Lyon", "p": 0.3}]}\n```',
            HALVES,
        ),
        ('{"text": "Paris", "probability": 1}\n{"text": "Lyon", "probability": 1}', HALVES),
        ('{"Paris": 0.5, "Lyon": 0.5}', HALVES),
        ('{"responses": ["Paris", "Lyon"], "probabilities": [30, 10]}', [("Paris", 0.75), ("Lyon", 0.25)]),
        ('[["Paris", 0.1], ["Lyon", 0.1]]', HALVES),
        ("[{'text': 'Paris', 'probability': 0.1}, {text: \"Lyon\", probability: 0.1,},]", HALVES),
        ('{"text": "two\nlines", "probability": 1}', [("two\nlines", 1.0)]),
        # tags
        (
            "<response><text>Paris</text><probability>0.2</probability></response>\n"
            "<response>\n<text> Lyon </text>\n<probability> 20 % </probability>\n</response>",
            HALVES,
        ),
        ("<response><text>Paris<probability>0.1<response><text>Lyon</text><probability>.1", HALVES),
        ('<response probability="0.2">Paris</response><response probability="0.2">Lyon</response>', HALVES),
        ("<text>Paris</text> <probability>0.1</probability> <text>Lyon</text> <probability>0.1</probability>", HALVES),
        ("<answer>Paris</answer><answer>Lyon</answer>", HALVES),
        (
            "<think>1. (0.9) no</think><responses><response>Paris</response><response>Lyon</response></responses>",
            HALVES,
        ),
        # lists
        ("Here they are:\n1. (0.4) Paris\n2. (0.4) Lyon", HALVES),
        ("1) Paris (40%)\n2) Lyon (40 %)", HALVES),
        ("**1.** **Paris** - Probability: 0.3\n**2.** **Lyon** - Probability: 0.3", HALVES),
        ("1. **Paris**\n   Probability: 1/4\n2. **Lyon**\n   Probability: 1/4", HALVES),
        ("- Paris: 0.25\n- Lyon: 0,25", HALVES),
        ('Response 1: "Paris" (probability = 0.5)\n\nResponse 2: "Lyon" (probability = 0.5)', HALVES),
        ("0.3: Paris\n0.3: Lyon", HALVES),
        ("1. A poem\nof two lines (0.5)\n2. B (0.5)", [("A poem\nof two lines", 0.5), ("B", 0.5)]),
        # probabilities that are missing or no numbers
        ('[{"text": "Paris", "probability": 0.5}, {"text": "Lyon", "probability": "high"}]', HALVES),
        ('[{"text": "Paris", "probability": null}, {"text": "Lyon", "probability": true}]', HALVES),
        ('[{"text": "Paris", "probability": 0}, {"text": "Lyon", "probability": 0.0}]', HALVES),
        ('[{"text": "Paris", "probability": -1}, {"text": "Lyon", "probability": NaN}]', HALVES),
        ('[{"text": "Paris", "probability": Infinity}, {"text": "Lyon", "probability": 1e999}]', HALVES),
        ("1. Paris (0.2)\n2. Lyon", HALVES),
        # the same answer twice
        ("1. (0.2) Paris\n2. (0.6) Lyon\n3. (0.4)  paris ", HALVES),
        # a number in an answer is not its probability
        ("1. (0.5) In 1999 (1999)\n2. (0.5) It rains with a probability of 0.3 today", None),
        # nothing that was asked for
        ("Paris", []),
        ("1. Paris\n2. Lyon", []),
        ("There is a probability of 0.3 that it is Paris.", []),
        ('xs = ["a", "b"]; ages = {"ann": 3, "bob": 4}; pair = ["a", 3]', []),
        ("", []),
        ('[{"text": "", "probability": 1}]', []),
    ],
)
def test_replies_as_models_write_them(reply, expected):
    found = parse_verbalized(reply)
    if expected is None:
        expected = [("In 1999 (1999)", 0.5), ("It rains with a probability of 0.3 today", 0.5)]
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [p for _, p in found] == pytest.approx([p for _, p in expected])


@pytest.mark.parametrize(
    "reply",
    [
        '[{"text": "Paris", "probability": 0.2}, {"text": "Lyon", "prob',
        '[{"text": "Paris", "probability": 0.2}, {"text": "Ly',
        "<response><text>Paris</text><probability>0.2</probability></response><response><text>Ly",
        "<response><text>Paris</text><probability>0.2</probability></response><response><text>Lyon</text><probability>0.",
        "1. (0.2) Paris\n2. (0.4) Ly",
    ],
)
def test_an_answer_that_is_cut_off_is_left_out(reply):
    assert parse_verbalized(reply, cut=True) == [("Paris", 1.0)]


words = st.text(st.sampled_from("abcdé <>&\"'\\{}[]()%,.:\n3"), max_size=30)
# Without what the format itself is made of, and not in a form that is cleaned away.
plain_words = st.lists(st.sampled_from(["river", "Ann", "three", "été", "a", "42x"]), min_size=1, max_size=6).map(
    " ".join
)
numbers = st.floats(0.001, 1.0).map(lambda value: round(value, 4))


@settings(deadline=None)
@given(
    st.one_of(
        st.text(), words, st.lists(st.sampled_from([*TEMPLATE.split(" "), "<text>", "0.3", "1. ", "\n"])).map("".join)
    )
)
def test_any_text_is_read_without_an_error(text):
    for cut in (False, True):
        found = parse_verbalized(text, cut)
        assert all(answer.strip() and 0 <= p <= 1 for answer, p in found)
        assert not found or math.fsum(p for _, p in found) == pytest.approx(1.0)
        assert len({" ".join(answer.split()).casefold() for answer, _ in found}) == len(found)


def as_json(pairs):
    return json.dumps([{"text": text, "probability": p} for text, p in pairs])


def as_tags(pairs):
    return "\n".join(f"<response><text>{t}</text><probability>{p}</probability></response>" for t, p in pairs)


def as_list(pairs):
    return "\n".join(f"{i}. ({p:.4f}) {text}" for i, (text, p) in enumerate(pairs, 1))


def as_percentages(pairs):
    return "\n".join(f"- {text} ({100 * p:.2f}%)" for text, p in pairs)


@settings(deadline=None)
@given(
    st.lists(st.tuples(plain_words, numbers), min_size=1, max_size=8, unique_by=lambda pair: pair[0].casefold()),
    st.sampled_from([as_json, as_tags, as_list, as_percentages]),
    st.sampled_from(["{}", "Sure!\n\n{}\n", "```\n{}\n```", "```json\n{}\n```\n"]),
)
def test_what_is_written_is_read_back(pairs, write, around):
    found = parse_verbalized(around.format(write(pairs)))
    total = sum(p for _, p in pairs)
    assert [text for text, _ in found] == [text for text, _ in pairs]
    assert [p for _, p in found] == pytest.approx([p / total for _, p in pairs], abs=1e-4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(any), st.floats(0, 1, exclude_max=True))
def test_the_draw_is_the_inverse_of_the_cumulative_distribution(probabilities, number):
    place = drawn_place(probabilities, number)
    sums = np.cumsum(probabilities)
    assert probabilities[place] > 0
    assert number * sums[-1] <= sums[place] * (1 + 1e-12) and (
        place == 0 or sums[place - 1] <= number * sums[-1] * (1 + 1e-12)
    )


def test_the_number_that_draws_is_uniform_and_the_sample_s_own():
    drawn = [draw_number(sample_seed(1, "p", seed)) for seed in range(2000)]
    assert draw_number(sample_seed(1, "p", 3)) == drawn[3] and len(set(drawn)) == 2000
    assert np.abs(np.sort(drawn) - (np.arange(2000) + 0.5) / 2000).max() < 0.04  # Kolmogorov-Smirnov, p < 0.005


def test_the_question_holds_the_prompt_with_its_own_braces():
    asking = Asking(3, None, "Give {answers}: {prompt}")
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "{answers} in {braces}"}]
    assert asking.messages(messages) == [messages[0], {"role": "user", "content": "Give 3: {answers} in {braces}"}]
    assert asking.limit(10) == 3 * 42 and replace(asking, max_new_tokens=7).limit(10) == 7


def test_echoes_of_the_template_are_no_answers():
    asking = Asking(3, None, "{prompt}{answers}\n<response><text>first</text><probability>0.4</probability></response>")
    reply = asking.read(Completion(0, text="1. (0.5) First\n2. (0.1) Paris\n3. (0.3) Lyon", finish_reason="stop"), 1)
    assert reply.answers == ["Paris", "Lyon"] and reply.probabilities == pytest.approx([0.25, 0.75])
    assert asking.read(Completion(0, text="1. (0.4) first", finish_reason="stop"), 1).drawn is None


def test_the_template_is_the_schema_s_default_and_holds_only_echoes():
    entry = config_schema()["properties"]["heuristics"]["properties"]["verbalized"]["items"]["properties"]
    assert entry["template"]["default"] == TEMPLATE
    assert Asking(5, None, TEMPLATE).read(Completion(0, text=TEMPLATE, finish_reason="stop"), 1).drawn is None


ENTRY = {"answers": 3, "max_new_tokens": None, "template": TEMPLATE, "pipeline": [{"temperature": 0.7}]}


def test_heuristics_have_names_and_ids_of_their_own():
    grid = [{"family": "temperature", "temperatures": [0.7]}]
    plain = expand_heuristics(Heuristics(grid=grid))
    entries = [ENTRY, {**ENTRY, "max_new_tokens": 90}, {**ENTRY, "template": "{prompt} {answers}"}]
    rows = expand_heuristics(Heuristics(grid=grid, verbalized=entries))
    assert rows[:1] == plain and len({row["heuristic_id"] for row in rows}) == 4
    names = [row["name"] for row in rows[1:]]
    assert names[:2] == ["verbalized_3+temperature_0.7", "verbalized_3_max_90+temperature_0.7"] and len(set(names)) == 3
    for row, entry in zip(rows[1:], entries, strict=True):
        step, chain = split_prompted(parse_processors(row["processors"]))
        assert Asking.of(step) == Asking(3, entry["max_new_tokens"], entry["template"])
        assert chain == parse_processors(plain[0]["processors"]) and row["family"] == "verbalized"
    first = json.loads(rows[1]["processors"])[0]
    with pytest.raises(ValueError, match="first step"):
        parse_processors([*json.loads(plain[0]["processors"]), first])


PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["a", "b"],
        "dataset": "d",
        "kind": "chat",
        "messages": [json.dumps([{"role": "user", "content": text}]) for text in ("Which city?", "Which sea?")],
        "verifier": None,
        "ground_truth": None,
        "split": "train",
    }
)
HEURISTICS = pd.DataFrame(
    expand_heuristics(Heuristics(grid=[{"family": "temperature", "temperatures": [0.7]}], verbalized=[ENTRY]))
)
PLAIN, PROMPTED = HEURISTICS["heuristic_id"]
SETTINGS = GenerationSettings(run_seed=5, max_new_tokens=6, stop=("!",), dtype="float32")
REPLY = "1. (0.5) short\n2. (0.3) far too long for it\n3. (0.2) hey! you"


@dataclass
class Letters:
    """An engine in memory with a token a character; its replies are given by the prompt's first word."""

    replies: dict[str, str] = field(default_factory=dict)
    failing_reads: bool = False
    dies_reading: bool = False
    asked: list = field(default_factory=list)
    name: str = "letters"

    def encode_chat(self, messages):
        return self.encode(messages[-1]["content"])

    def encode(self, text):
        return [ord(character) for character in text]

    def decode(self, token_ids):
        return "".join(map(chr, token_ids))

    def generate(self, requests):
        self.asked += requests
        for index, request in enumerate(requests):
            if request.given is not None:
                if self.dies_reading:
                    raise ConnectionError("the engine died")
                if self.failing_reads:
                    yield Completion(index, error="out of memory")
                    continue
                count = len(request.given)
                yield Completion(
                    index, [], "", "stop", None, [-0.5] * count, [-float(len(request.prompt_token_ids))] * (count + 1)
                )
                continue
            prompt = self.decode(request.prompt_token_ids)
            text = self.replies.get(prompt.split()[1], REPLY) if "Give 3" in prompt else "plain"
            ids = self.encode(text)
            yield Completion(index, ids, text, "stop", None, [-1.0] * len(ids), [-2.0] * (len(ids) + 1))


def run(engine, output, heuristics=HEURISTICS, seeds=range(12)):
    generate(PROMPTS, heuristics, list(seeds), engine, "model", SETTINGS, output)
    return read_table("candidates", output)


def test_one_answer_is_drawn_and_measured_given_the_plain_prompt(tmp_path):
    engine = Letters()
    table = run(engine, tmp_path / "c.parquet")
    replies = read_table("candidates_with_replies", tmp_path / "c.parquet")["reply"]
    assert len(table) == 2 * 2 * 12 and replies[(table["heuristic_id"] == PLAIN).to_numpy()].isna().all()
    drawn = set()
    for row, reply in zip(table.itertuples(), replies, strict=True):
        prompt = "Which city?" if row.prompt_id == "a" else "Which sea?"
        assert row.prompt_token_ids.tolist() == engine.encode(prompt) and pd.isna(row.error)
        assert row.sample_seed == sample_seed(5, row.prompt_id, row.seed)
        if row.heuristic_id == PLAIN:
            continue
        assert reply["text"] == REPLY and reply["probabilities"].tolist() == pytest.approx([0.5, 0.3, 0.2])
        assert reply["answers"].tolist() == ["short", "far too long for it", "hey! you"]
        assert reply["drawn"] == drawn_place([0.5, 0.3, 0.2], draw_number(row.sample_seed))
        expected = [("short", "stop"), ("far to", "length"), ("hey", "stop")][int(reply["drawn"])]
        assert (row.text, row.finish_reason) == expected and engine.decode(row.token_ids) == row.text
        assert row.token_logprobs.tolist() == [-0.5] * len(row.text)
        assert row.end_logprobs.tolist() == [-float(len(prompt))] * (len(row.text) + 1)
        drawn.add(int(reply["drawn"]))
    assert drawn == {0, 1, 2}
    sent = [request for request in engine.asked if "Give 3" in engine.decode(request.prompt_token_ids)]
    assert {(request.max_new_tokens, request.stop, request.given) for request in sent} == {(3 * 38, (), None)}
    assert {request.pipeline for request in engine.asked if request.given is None} == {
        parse_processors(HEURISTICS["processors"][0])
    }


def test_answers_of_other_heuristics_are_as_they_were(tmp_path):
    alone = run(Letters(), tmp_path / "alone.parquet", HEURISTICS[:1])
    assert "reply" not in pq.read_schema(tmp_path / "alone.parquet").names
    together = run(Letters(), tmp_path / "together.parquet")
    together = together[together["heuristic_id"] == PLAIN].reset_index(drop=True)
    pd.testing.assert_frame_equal(together, alone)
    # What is there is taken over, in both directions; replies without an answer too.
    for heuristics, names in ((HEURISTICS, {"Give 3"}), (HEURISTICS[:1], set())):
        engine = Letters({"city?": "I cannot."})
        run(engine, tmp_path / "alone.parquet", heuristics)
        prompts = {engine.decode(request.prompt_token_ids) for request in engine.asked if request.given is None}
        assert all(any(name in prompt for name in names) for prompt in prompts) and bool(prompts) == bool(names)
    engine = Letters({"city?": "I cannot."})
    for _ in range(2):
        engine.asked.clear()
        run(engine, tmp_path / "again.parquet")
    assert not engine.asked


def test_a_job_that_died_between_reply_and_measurement_goes_on(tmp_path):
    expected = run(Letters(), tmp_path / "whole.parquet")
    with pytest.raises(ConnectionError):
        run(Letters(dies_reading=True), tmp_path / "c.parquet")
    engine = Letters()
    pd.testing.assert_frame_equal(run(engine, tmp_path / "c.parquet"), expected)
    assert all(request.given is not None for request in engine.asked) and len(engine.asked) == 24


def test_replies_without_an_answer_are_reported_and_lose_no_prompt(tmp_path):
    shard = tmp_path / "c.parquet"
    table = run(Letters({"sea?": "I do not know."}), shard, seeds=range(3))
    unparsed = table[(table["prompt_id"] == "b") & (table["heuristic_id"] == PROMPTED)]
    assert (unparsed["finish_reason"] == "error").all() and unparsed["error"].str.startswith(UNPARSED).all()
    assert (unparsed["text"] == "").all() and unparsed["token_logprobs"].isna().all()

    verify_candidates([shard], PROMPTS, HEURISTICS, range(3), 0.0, tmp_path / "all.parquet", tmp_path / "report.json")
    pd.testing.assert_frame_equal(read_table("candidates", tmp_path / "all.parquet"), table)
    report = read_json(tmp_path / "report.json")
    assert not report["missing"] + report["failed"] + report["dropped_prompts"] and report["found"] == 12
    assert [[row[key] for key in KEY] for row in report["unparsed"]] == unparsed[KEY].values.tolist()
    assert report["unparsed_shares"] == {"verbalized_3+temperature_0.7": 0.5}
    completeness_page({"all": report}, tmp_path / "page.html")
    assert "50.0% held no answer" in (tmp_path / "page.html").read_text()


def test_an_answer_that_cannot_be_measured_is_lost_with_the_reason(tmp_path):
    table = run(Letters(failing_reads=True), tmp_path / "c.parquet", seeds=[0])
    failed = table[table["heuristic_id"] == PROMPTED]
    assert (failed["finish_reason"] == "error").all() and (failed["text"] == "").all()
    assert failed["error"].str.contains("could not be measured: out of memory").all()


def test_a_failed_reply_is_a_failed_answer():
    asked = PromptedRequest.of(Asking(3, None, TEMPLATE), Request((1,), (), 3, 6), (2,))
    failed = Completion(4, error="too long")
    assert asked.answer(failed, Letters()) == (failed, None)


def test_given_answers_are_measured_among_others_by_the_engine(tiny_model):
    engine = TransformersEngine(tiny_model, 4)
    prompt = tuple(tiny_model.encode_chat([{"role": "user", "content": "Write a poem."}]))
    chain = parse_processors(HEURISTICS["processors"][0])
    drawn = [Request(prompt, chain, seed, 8) for seed in range(3)]
    first = sorted(engine.generate(drawn), key=lambda completion: completion.index)
    reading = [Request.reading(prompt, completion.token_ids) for completion in first]
    refused = Request.reading(prompt * 20, (1, 2))
    found = sorted(engine.generate([*drawn[:1], *reading, refused]), key=lambda completion: completion.index)
    assert len(found) == 5 and found[0].token_ids == first[0].token_ids and "exceed" in found[4].error
    for completion, measured in zip(first, found[1:4], strict=True):
        assert measured.token_logprobs == pytest.approx(completion.token_logprobs, abs=1e-3)
        assert measured.end_logprobs == pytest.approx(completion.end_logprobs, abs=1e-3)
    assert engine.encode("a<|im_end|>b") == engine.encode("a")
