"""Sources become one table of prompts, and what is wrong with them is said plainly."""

import datetime
import json
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from adaptive_samplers.config.model.prompts import PromptSource
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.labels.correctness import label_correctness
from adaptive_samplers.labels.verifiers import VERIFIERS, Verification
from adaptive_samplers.prompts import KINDS, SPLITS, collect_prompts
from adaptive_samplers.tables import SCHEMAS, read_table, write_table
from support import REPOSITORY

SPLIT = {"train": 0.5, "validation": 0.2, "test": 0.3}
RESOURCES = REPOSITORY / "resources"


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_lines(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def collect(folder, *sources, per_kind=None, split=SPLIT):
    return collect_prompts([PromptSource(**source) for source in list(sources)], split, per_kind, folder)


def chats(count):
    return [{"prompt": f"Hello number {index}", "kind": "chat"} for index in range(count)]


# The shipped prompts


@pytest.fixture(scope="module")
def shipped():
    return read_lines(RESOURCES / "prompts.jsonl")


def test_shipped_prompts_are_consistent(shipped):
    table = collect_prompts([PromptSource(path="prompts.jsonl")], SPLIT, None, RESOURCES)
    assert len(table) == len(shipped) >= 120
    assert table.attrs["duplicates"] == 0
    counts = Counter(table["kind"])
    assert set(counts) == set(KINDS)
    assert min(counts.values()) >= 28
    # The demo's caps can be met in every split.
    for (_, split), size in table.groupby(["kind", "split"]).size().items():
        assert size >= {"train": 5, "validation": 2, "test": 4}[split]
    assert table.groupby(["kind", "split"]).ngroups == len(KINDS) * len(SPLITS)


def test_shipped_prompts_say_how_they_are_checked(shipped):
    for row in shipped:
        assert set(row) <= {"prompt", "kind", "verifier", "ground_truth"}
        assert row["prompt"] == row["prompt"].strip()
        if row["kind"] in ("verifiable", "factual"):
            assert row["verifier"] in VERIFIERS, row
            score, detail = VERIFIERS[row["verifier"]]("Purple elephants, 77,777 of them.", row["ground_truth"])
            assert 0 <= score <= 1 and detail, row
            assert row["kind"] == "verifiable" or score == 0, row
        else:
            assert "verifier" not in row, row
        if row["kind"] == "factual":
            assert row["verifier"] == "regex"


@pytest.mark.parametrize(
    ("beginning", "good", "bad"),
    [
        ("List three", "1. One\n2. Two\n3. Three", "1. One\n2. Two\n3. Three\n4. Four"),
        ("List three", "Here they are:\n\n1. One\n2. Two\n3. Three\n", "One, two and three."),
        ("Write one sentence about the weather", "Today it rains.", "It rains today."),
        ("Write one sentence about bread", "Bread is good.", "Bread is good. Eat it!"),
        ("Write two short bullet", "* One\n* Two", "- One\n- Two"),
        ("Write a question that you could ask your", "Why is that?", "I wonder why."),
        ("Give me a title", "<<The Snail>>", '"The Snail"'),
        ("Calculate 2 + 3", "2 + 3 = 5", "2 + 3 = 6"),
        ("Who painted the Mona Lisa", "It was Leonardo.", "It was Lisa."),
        ("What is the chemical symbol for gold", "Its symbol is Au.", "Its symbol is Ag."),
    ],
)
def test_shipped_checks_accept_good_and_reject_bad_answers(shipped, beginning, good, bad):
    rows = [row for row in shipped if row["prompt"].startswith(beginning)]
    assert rows
    for row in rows:
        check = VERIFIERS[row["verifier"]]
        assert check(good, row["ground_truth"])[0] == 1, row
        assert check(bad, row["ground_truth"])[0] == 0, row


def test_shipped_sums_are_right(shipped):
    sums = [row for row in shipped if row["prompt"].startswith("Calculate ")]
    assert sums
    for row in sums:
        terms = row["prompt"].removeprefix("Calculate ").removesuffix(".").split(" + ")
        assert sum(map(int, terms)) == row["ground_truth"]


def test_judge_pairs_are_complete_and_share_no_prompt_with_the_prompts(shipped):
    pairs = read_lines(RESOURCES / "judge_pairs.jsonl")
    answers = {row["prompt"]: row["answer"] for row in read_lines(RESOURCES / "judge_answers.jsonl")}
    assert len(answers) >= 40
    assert not set(answers) & {row["prompt"] for row in shipped}
    assert all(15 <= len(answer.split()) <= 40 for answer in answers.values())
    counts = Counter(pair["corruption"] for pair in pairs)
    written = {"shuffled", "other", "truncated", "repeated"}
    assert set(counts) == written | {"temperature_1.3", "temperature_1.7"}
    assert all(counts[corruption] == len(answers) for corruption in written)
    assert min(counts.values()) >= 40
    for pair in pairs:
        assert answers[pair["prompt"]] == pair["chosen"] != pair["rejected"]
        assert pair["rejected"].strip()
    assert (RESOURCES / "judge_pairs.jsonl").stat().st_size < 200_000


def test_judge_pairs_can_be_made_again(tmp_path):
    for name in ("make_judge_pairs.py", "judge_answers.jsonl", "judge_pairs.jsonl"):
        (tmp_path / name).write_bytes((RESOURCES / name).read_bytes())
    subprocess.run([sys.executable, tmp_path / "make_judge_pairs.py"], check=True, capture_output=True)
    again = (tmp_path / "judge_pairs.jsonl").read_bytes()
    assert again == (RESOURCES / "judge_pairs.jsonl").read_bytes()


# Reading sources


def test_ids_follow_from_the_content_alone(tmp_path):
    write_lines(tmp_path / "a.jsonl", chats(20))
    write_lines(tmp_path / "b.jsonl", [{"question": row["prompt"]} for row in reversed(chats(20))])
    first = collect(tmp_path, {"path": "a.jsonl"})
    second = collect(tmp_path, {"path": "b.jsonl", "prompt_key": "question", "kind": "creative"})
    assert list(first.columns) == SCHEMAS["prompts"].names
    assert first["prompt_id"].tolist() == second["prompt_id"].tolist() == sorted(first["prompt_id"])
    assert first["split"].tolist() == second["split"].tolist()
    messages = json.loads(first["messages"][0])
    assert first["prompt_id"][0] == content_id(messages)
    assert messages[0]["role"] == "user"
    assert set(first["dataset"]) == {"a"}
    assert set(second["kind"]) == {"creative"}


def test_the_table_fits_its_schema(tmp_path):
    rows = [*chats(3), {"prompt": "1 + 1?", "kind": "verifiable", "verifier": "numeric", "ground_truth": 2}]
    write_lines(tmp_path / "a.jsonl", rows)
    write_table("prompts", collect(tmp_path, {"path": "a.jsonl"}), tmp_path / "prompts.parquet")
    table = read_table("prompts", tmp_path / "prompts.parquet")
    assert table["verifier"].notna().sum() == 1
    assert json.loads(table.loc[table["verifier"].notna(), "ground_truth"].item()) == 2


def test_a_source_has_its_own_keys(tmp_path):
    rows = [{"q": "Name a river.", "sort": "factual", "check": "exact", "gold": ["Nile", "Rhine"]}]
    write_lines(tmp_path / "a.jsonl", rows)
    source = {
        "path": "a.jsonl",
        "dataset": "rivers",
        "prompt_key": "q",
        "kind_key": "sort",
        "verifier_key": "check",
        "ground_truth_key": "gold",
        "system_prompt": "Be brief.",
    }
    row = collect(tmp_path, source).iloc[0]
    assert (row["dataset"], row["kind"], row["verifier"]) == ("rivers", "factual", "exact")
    assert json.loads(row["ground_truth"]) == ["Nile", "Rhine"]
    assert json.loads(row["messages"]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name a river."},
    ]


def test_a_source_can_fix_kind_and_verifier(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"prompt": "2 + 2?", "ground_truth": "4"}])
    row = collect(tmp_path, {"path": "a.jsonl", "kind": "verifiable", "verifier": "numeric"}).iloc[0]
    assert (row["kind"], row["verifier"], row["ground_truth"]) == ("verifiable", "numeric", '"4"')


def test_messages_keep_their_turns_and_their_own_system_prompt(tmp_path):
    turns = [
        {"role": "system", "content": "Rhyme."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Bye"},
        {"role": "user", "content": "Why?"},
    ]
    write_lines(tmp_path / "a.jsonl", [{"messages": turns, "kind": "chat"}])
    row = collect(tmp_path, {"path": "a.jsonl", "system_prompt": "Be brief."}).iloc[0]
    assert json.loads(row["messages"]) == turns


def test_parquet_sources(tmp_path):
    checks = [{"instruction_id": "punctuation:no_comma", "kwargs": {}}]
    table = pa.table(
        {
            "conversation": [
                [{"role": "user", "content": "Say hi."}],
                [{"role": "user", "content": "Say 5."}],
            ],
            "verifier": ["instructions", None],
            "reference": [json.dumps(checks), "5"],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    source = {
        "path": "a.parquet",
        "prompt_key": "conversation",
        "ground_truth_key": "reference",
        "kind": "chat",
    }
    rows = {json.loads(row.messages)[0]["content"]: row for row in collect(tmp_path, source).itertuples()}
    assert json.loads(rows["Say hi."].ground_truth) == checks
    assert rows["Say 5."].verifier is None or pd.isna(rows["Say 5."].verifier)
    write_table("prompts", collect(tmp_path, source), tmp_path / "out.parquet")


def test_an_own_verifier_is_known_and_tried(tmp_path):
    (tmp_path / "own.py").write_text(
        "def verify(text, ground_truth):\n    if ground_truth != 'x': raise ValueError('not an x')\n    return 1"
    )
    verification = Verification(own=(("mine", str(tmp_path / "own.py")),))
    row = {"prompt": "Say x.", "kind": "factual", "verifier": "mine", "ground_truth": "x"}
    write_lines(tmp_path / "a.jsonl", [row])
    table = collect_prompts([PromptSource(path="a.jsonl")], SPLIT, None, tmp_path, verification)
    assert table["verifier"].tolist() == ["mine"]
    write_lines(tmp_path / "a.jsonl", [row | {"verifier": "mime"}])
    with pytest.raises(UserError, match="unknown verifier 'mime'; did you mean 'mine'"):
        collect_prompts([PromptSource(path="a.jsonl")], SPLIT, None, tmp_path, verification)
    write_lines(tmp_path / "a.jsonl", [row | {"ground_truth": "y"}])
    with pytest.raises(UserError, match=r"line 1: .* cannot use .* not an x"):
        collect_prompts([PromptSource(path="a.jsonl")], SPLIT, None, tmp_path, verification)


def test_a_ground_truth_that_hangs_its_verifier_is_refused(tmp_path):
    pattern = r"(((.+)+)+)+\d\d$"
    row = {"prompt": "Say x.", "kind": "factual", "verifier": "regex", "ground_truth": pattern}
    write_lines(tmp_path / "a.jsonl", [row])
    with pytest.raises(UserError, match="was killed after 1 s"):
        collect_prompts([PromptSource(path="a.jsonl")], SPLIT, None, tmp_path, Verification(timeout=1.0))


# Ground truths


SUMS = [{"prompt": f"{n} + 1?", "kind": "verifiable", "verifier": "numeric", "ground_truth": n + 1} for n in range(20)]


def test_gsm8k_as_the_readme_shows_it(tmp_path):
    """The very example, on rows of that form: collected, and answers to them verified."""
    readme = (REPOSITORY / "config" / "README.md").read_text()
    [example] = [block for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "gsm8k" in block]
    [source] = [source for source in yaml.safe_load(example)["prompts"]["sources"] if "gsm8k" in source["path"]]
    rows = [
        {
            "question": "Mia sold clips to 48 friends in April, and half as many in May. How many did she sell?",
            "answer": "Mia sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips.\n#### 72",
        },
        {"question": "A house costs $1,250 and 20 dollars more. What is it?", "answer": "It is 1250+20.\n#### 1,270"},
    ]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / source["path"])
    prompts = collect(tmp_path, source)
    ids = {json.loads(row.messages)[-1]["content"]: row.prompt_id for row in prompts.itertuples()}
    first, second = (ids[row["question"]] for row in rows)
    answers = {
        (first, 0): ("48/2 = 24, so 48 + 24 = 72.", 1.0),
        (first, 1): (rows[0]["answer"], 1.0),
        (first, 2): ("She sold 48.", 0.0),
        (second, 0): (r"So it is \boxed{1{,}270}.", 1.0),
        (second, 1): ("#### 1", 0.0),
        (second, 2): ("The answer is $1,270.00.", 1.0),
    }
    given = {"heuristic_id": "h", "prompt_token_ids": [], "token_ids": [], "finish_reason": "stop", "sample_seed": 0}
    given |= {"engine": "test", "error": None, "token_logprobs": None, "end_logprobs": None}
    candidates = [given | {"prompt_id": p, "seed": seed, "text": text} for (p, seed), (text, _) in answers.items()]
    write_table("candidates", candidates, tmp_path / "candidates.parquet")
    label_correctness(tmp_path / "candidates.parquet", prompts, tmp_path / "labels.parquet", 0.0, Verification())
    labels = read_table("correctness", tmp_path / "labels.parquet")
    assert [answers[row.prompt_id, row.seed][1] for row in labels.itertuples()] == labels["score"].tolist()


def test_ground_truths_that_cannot_be_used_are_listed_with_what_was_read(tmp_path):
    rows = [
        *SUMS,
        *({"prompt": f"x{n}", "kind": "verifiable", "verifier": "math", "ground_truth": f"{n} {n}"} for n in range(12)),
    ]
    write_lines(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError) as caught:
        collect(tmp_path, {"path": "a.jsonl"})
    message = str(caught.value)
    assert "a.jsonl, line 21: the verifier 'math' cannot use the ground truth '0 0'" in message
    assert "line 30" in message and "line 31" not in message and "and 2 more like these" in message
    assert "prompts.unusable_ground_truths: leave_out" in message
    table = collect_prompts([PromptSource(path="a.jsonl")], SPLIT, None, tmp_path, leave_out=True)
    assert len(table) == 20 and len(table.attrs["left_out"]) == 12
    assert "line 32" in table.attrs["left_out"][-1]
    write_lines(tmp_path / "a.jsonl", rows[20:])
    with pytest.raises(UserError, match="no prompt is left"):
        collect_prompts([PromptSource(path="a.jsonl")], SPLIT, None, tmp_path, leave_out=True)


def test_what_was_read_of_a_ground_truth_is_told(tmp_path):
    row = {"prompt": "x", "kind": "verifiable", "verifier": "math", "ground_truth": "f'(x) = 2x"}
    write_lines(tmp_path / "a.jsonl", [row])
    with pytest.raises(UserError, match=r"line 1: .* is read as Eq\(f\(x\), 2\*x\), without its"):
        collect(tmp_path, {"path": "a.jsonl"})


def test_a_prompt_with_two_ground_truths_is_named_with_both(tmp_path):
    write_lines(tmp_path / "a.jsonl", SUMS)
    again = [SUMS[3] | {"ground_truth": "4.0"}, SUMS[4] | {"ground_truth": 7}, SUMS[5] | {"verifier": "math"}, SUMS[6]]
    write_lines(tmp_path / "b.jsonl", again)
    with pytest.raises(UserError) as caught:
        collect(tmp_path, {"path": "a.jsonl"}, {"path": "b.jsonl"})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert (
        "a.jsonl, line 5, and " in lines[0] and "b.jsonl, line 2: the same prompt has two ground truths, 5 " in lines[0]
    )
    assert "a.jsonl, line 6, and " in lines[1] and "'numeric' and 6 for 'math'" in lines[1]
    table = collect_prompts(
        [PromptSource(path="a.jsonl"), PromptSource(path="b.jsonl")], SPLIT, None, tmp_path, leave_out=True
    )
    assert len(table) == 18 and table.attrs["duplicates"] == 4 and len(table.attrs["left_out"]) == 2


def test_a_prompt_without_a_verifier_contradicts_nothing(tmp_path):
    write_lines(tmp_path / "a.jsonl", [SUMS[0], {"prompt": SUMS[0]["prompt"], "kind": "chat"}])
    table = collect(tmp_path, {"path": "a.jsonl"})
    assert table["verifier"].tolist() == ["numeric"] and table.attrs["duplicates"] == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_the_number_of_processes_changes_nothing(tmp_path, processes):
    write_lines(tmp_path / "a.jsonl", SUMS)
    table = collect_prompts([PromptSource(path="a.jsonl")], SPLIT, None, tmp_path, processes=processes)
    pd.testing.assert_frame_equal(table, collect(tmp_path, {"path": "a.jsonl"}))


@pytest.mark.parametrize(
    ("column", "verifier", "expected"),
    [
        (pa.array([Decimal("18.90")], pa.decimal128(10, 2)), "numeric", 18.9),
        (pa.array([Decimal("72")], pa.decimal128(10, 0)), "math", 72),
        (pa.array([datetime.date(2026, 1, 31)]), "exact", "2026-01-31"),
        (pa.array([b"Oslo"]), "exact", "Oslo"),
        (pa.array([72.0]), "numeric", 72.0),
    ],
)
def test_ground_truths_of_every_type_of_parquet(tmp_path, column, verifier, expected):
    pq.write_table(pa.table({"prompt": ["Hi"], "ground_truth": column}), tmp_path / "a.parquet")
    row = collect(tmp_path, {"path": "a.parquet", "kind": "verifiable", "verifier": verifier}).iloc[0]
    assert json.loads(row["ground_truth"]) == expected


def test_a_number_that_is_none_is_no_ground_truth(tmp_path):
    pq.write_table(pa.table({"prompt": ["Hi", "Ho"], "ground_truth": [1.0, float("nan")]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet, row 2: the verifier 'numeric' has no ground truth"):
        collect(tmp_path, {"path": "a.parquet", "kind": "verifiable", "verifier": "numeric"})
    (tmp_path / "b.jsonl").write_text('{"prompt": "Hi", "ground_truth": NaN}\n')
    with pytest.raises(UserError, match=r"b\.jsonl, line 1: .* cannot use the ground truth nan .* not a number"):
        collect(tmp_path, {"path": "b.jsonl", "kind": "verifiable", "verifier": "numeric"})


def test_an_own_verifier_can_say_what_is_right_in_its_own_words(tmp_path):
    (tmp_path / "own.py").write_text(
        "def verify(text, ground_truth): return float(text == ground_truth.upper())\n"
        "def own_words(ground_truth): return [ground_truth]\n"
    )
    verification = Verification(own=(("mine", str(tmp_path / "own.py")),))
    row = {"prompt": "Say x.", "kind": "factual", "verifier": "mine", "ground_truth": "X"}
    write_lines(tmp_path / "a.jsonl", [row])
    assert len(collect_prompts([PromptSource(path="a.jsonl")], SPLIT, None, tmp_path, verification)) == 1
    write_lines(tmp_path / "a.jsonl", [row | {"ground_truth": "x"}])
    with pytest.raises(UserError, match=r"line 1: .* the answer 'x', which says the same, scores 0"):
        collect_prompts([PromptSource(path="a.jsonl")], SPLIT, None, tmp_path, verification)


def test_duplicates_are_dropped_and_counted(tmp_path):
    write_lines(tmp_path / "a.jsonl", chats(4))
    write_lines(tmp_path / "b.jsonl", [*chats(6), *chats(1)])
    table = collect(tmp_path, {"path": "a.jsonl"}, {"path": "b.jsonl"})
    assert len(table) == 6
    assert table.attrs["duplicates"] == 5
    assert Counter(table["dataset"]) == {"a": 4, "b": 2}


def test_a_limit_takes_the_first_rows(tmp_path):
    # The unreadable line lies beyond the limit, so it is never read.
    path = write_lines(tmp_path / "a.jsonl", chats(3))
    path.write_text(path.read_text() + "not json\n")
    table = collect(tmp_path, {"path": "a.jsonl", "limit": 3})
    assert len(table) == 3


def test_splits_come_near_their_shares_and_ignore_the_order_of_keys(tmp_path):
    write_lines(tmp_path / "a.jsonl", chats(2000))
    table = collect(tmp_path, {"path": "a.jsonl"})
    shares = table["split"].value_counts(normalize=True)
    for name, share in SPLIT.items():
        assert shares[name] == pytest.approx(share, abs=0.04)
    backwards = collect(tmp_path, {"path": "a.jsonl"}, split=dict(reversed(SPLIT.items())))
    assert table["split"].tolist() == backwards["split"].tolist()
    only = collect(tmp_path, {"path": "a.jsonl"}, split={"train": 0, "validation": 0, "test": 1})
    assert set(only["split"]) == {"test"}


def test_caps_take_the_lowest_ids_of_each_kind_and_split(tmp_path):
    write_lines(tmp_path / "a.jsonl", chats(100))
    everything = collect(tmp_path, {"path": "a.jsonl"})
    capped = collect(tmp_path, {"path": "a.jsonl"}, per_kind={"train": 3, "validation": 0, "test": None})
    for name, cap in {"train": 3, "validation": 0, "test": None}.items():
        expected = everything.loc[everything["split"] == name, "prompt_id"].tolist()[:cap]
        assert capped.loc[capped["split"] == name, "prompt_id"].tolist() == expected
    assert capped["prompt_id"].is_monotonic_increasing


def test_unusual_line_separators_stay_inside_a_prompt(tmp_path):
    row = {"prompt": "one\u2028two\x85three", "kind": "chat"}
    (tmp_path / "a.jsonl").write_text("\ufeff" + json.dumps(row, ensure_ascii=False) + "\r\n\r\n", encoding="utf-8")
    table = collect(tmp_path, {"path": "a.jsonl"})
    assert json.loads(table["messages"][0])[0]["content"] == row["prompt"]


# What is wrong is named, with the way out

FACT = {"prompt": "Capital of France?", "kind": "factual"}


@pytest.mark.parametrize(
    ("rows", "source", "parts"),
    [
        ([*chats(1), {"promt": "Hi", "kind": "chat"}], {}, ["line 2", "'prompt'", "'promt'", "prompt_key"]),
        (chats(1), {"prompt_key": "promt"}, ["line 1", "'promt'", "did you mean 'prompt'"]),
        ([{"prompt": "Hi"}], {}, ["line 1", "'kind'", "kind_key", "`kind` for the whole source"]),
        ([{"prompt": "Hi", "kind": "creatve"}], {}, ["line 1", "'creatve'", "did you mean 'creative'"]),
        ([{"prompt": "Hi", "kind": "poem!"}], {}, ["unknown kind", "known are creative, verifiable"]),
        ([{"prompt": " ", "kind": "chat"}], {}, ["line 1", "'prompt'", "empty"]),
        ([{"prompt": 3, "kind": "chat"}], {}, ["line 1", "'prompt'", "neither text nor a list"]),
        ([{"messages": [], "kind": "chat"}], {}, ["'messages'", "empty"]),
        ([{"messages": [{"role": "usr", "content": "Hi"}], "kind": "chat"}], {}, ["did you mean 'user'"]),
        ([{"messages": [{"role": "user"}], "kind": "chat"}], {}, ["no text as its content"]),
        ([{"messages": [{"role": "assistant", "content": "Hi"}], "kind": "chat"}], {}, ["last message"]),
        (
            [FACT | {"verifier": "regx", "ground_truth": "paris"}],
            {},
            ["line 1", "'regx'", "did you mean 'regex'"],
        ),
        ([FACT | {"verifier": "regex"}], {}, ["line 1", "'regex'", "'ground_truth'", "ground_truth_key"]),
        (
            [FACT | {"verifier": "regex", "ground_trth": "paris"}],
            {},
            ["no ground truth", "did you mean 'ground_trth'"],
        ),
        (
            [FACT | {"verifier": "regex", "ground_truth": "("}],
            {},
            ["line 1", "cannot use the ground truth '('"],
        ),
        ([FACT | {"verifier": "numeric", "ground_truth": "x"}], {}, ["cannot use", "not a number"]),
        ([FACT | {"kind": "verifiable"}], {}, ["line 1", "no verifier"]),
        ([FACT], {"verifier_key": "check"}, ["line 1", "'check'", "verifier_key"]),
        ([["a", "list"]], {}, ["line 1", "not a JSON object"]),
        ([], {}, ["holds no prompts"]),
    ],
)
def test_a_bad_row_is_named(tmp_path, rows, source, parts):
    write_lines(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError) as caught:
        collect(tmp_path, {"path": "a.jsonl"} | source)
    for part in ["a.jsonl", *parts]:
        assert part in str(caught.value)


def test_a_missing_file_is_named_with_its_neighbor(tmp_path):
    write_lines(tmp_path / "prompts.jsonl", chats(1))
    with pytest.raises(UserError, match=r"prompt\.jsonl: there is no such file; did you mean 'prompts\.jsonl'"):
        collect(tmp_path, {"path": "prompt.jsonl"})
    with pytest.raises(UserError, match=r"nowhere.*prompts\.sources"):
        collect(tmp_path, {"path": "nowhere/x.jsonl"})


@pytest.mark.parametrize("line", [b'{"prompt": "Hi", \n', b'{"prompt": "\xff", "kind": "chat"}\n'])
def test_an_unreadable_line_is_named(tmp_path, line):
    (tmp_path / "a.jsonl").write_bytes(json.dumps(chats(1)[0]).encode() + b"\n\n" + line)
    with pytest.raises(UserError, match=r"a\.jsonl, line 3: not (readable as JSON|UTF-8 text)"):
        collect(tmp_path, {"path": "a.jsonl"})


def test_bad_parquet_is_named(tmp_path):
    (tmp_path / "a.parquet").write_text("not parquet")
    with pytest.raises(UserError, match=r"a\.parquet: not readable as Parquet"):
        collect(tmp_path, {"path": "a.parquet"})
    pq.write_table(pa.table({"prompt": ["Hi", None], "kind": ["chat", "chat"]}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet, row 2: .* is empty"):
        collect(tmp_path, {"path": "b.parquet"})


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": 0.5, "test": 0.3}, "sum to 0.8"),
        ({"train": 0.5, "tset": 0.5}, "did you mean 'test'"),
        ({"train": 1.5, "test": -0.5}, "negative"),
    ],
)
def test_bad_splits(tmp_path, split, message):
    write_lines(tmp_path / "a.jsonl", chats(1))
    with pytest.raises(UserError, match=message):
        collect(tmp_path, {"path": "a.jsonl"}, split=split)
    with pytest.raises(UserError, match="no source"):
        collect_prompts([], SPLIT, None, tmp_path)
