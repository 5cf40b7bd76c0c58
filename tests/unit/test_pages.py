"""HTML pages, read back with a parser; provenance."""

import re
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from jinja2 import Template

from adaptive_samplers import provenance
from adaptive_samplers.labels.combination import combined_report
from adaptive_samplers.labels.judges.feature_reward import TEXT_FEATURES
from adaptive_samplers.labels.judges.registry import JUDGE_FEATURES
from adaptive_samplers.pages import (
    comparison_page,
    completeness_page,
    judge_page,
    judge_parts,
    page,
    paragraph,
    table,
)
from support import REPOSITORY


class Reader(HTMLParser):
    """Collects the texts of table cells by row, of all elements by tag, and checks that tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.texts, self.classes = [], [], {}, []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
            self.classes.append(dict(attributes).get("class"))
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open:
            return
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        else:
            self.texts.setdefault(self.open[-1], []).append(data)


def test_text_is_escaped(tmp_path):
    nasty = "<script>'&\"</script>"
    page(nasty, [paragraph(nasty), table([nasty], [[nasty]])], tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    read = Reader(text)
    assert "script" not in read.texts and read.rows == [[nasty], [nasty]]
    assert read.texts["h1"] == read.texts["title"] == read.texts["p"] == [nasty]
    assert text.startswith("<!DOCTYPE html>") and "http" not in text  # self-contained


def test_cells():
    rows = [["a", 1.23456, 7], ["b", None, np.float64("nan")], ["c", np.float64(2), True]]
    read = Reader(table(["x", "y", "z"], rows, ["heuristic", "learned", "heuristic"]))
    assert read.rows[1:] == [["a", "1.235", "7"], ["b", "–", "–"], ["c", "2.000", "True"]]
    assert read.classes == [None, "heuristic", "learned", "heuristic"]


def test_comparison_is_best_first_with_intervals(tmp_path):
    columns = ["family", "name", "kind", "objective", "mean", "low", "high", "n_prompts"]
    rows = [
        ("temperature", "temperature_1", "heuristic", "quality", 0.1, -0.2, 0.4, 9),
        ("learned", "SamplingNetwork a0 top2", "learned", "quality", 0.5, 0.25, 0.75, 9),
        ("temperature", "temperature_1", "heuristic", "correctness", np.nan, np.nan, np.nan, 0),
        ("learned", "SamplingNetwork a0 top2", "learned", "correctness", 0.5, np.nan, np.nan, 1),
        ("top_p", "top_p_0.9", "heuristic", "quality", 0.3, 0.2, 0.4, 9),
    ]
    comparison_page(pd.DataFrame(rows, columns=columns), tmp_path / "c.html")
    read = Reader((tmp_path / "c.html").read_text(encoding="utf-8"))
    assert read.rows == [
        ["sampler", "quality", "correctness"],
        ["SamplingNetwork a0 top2", "0.500 [0.250, 0.750]", "0.500"],
        ["top_p_0.9", "0.300 [0.200, 0.400]", ""],
        ["temperature_1", "0.100 [-0.200, 0.400]", "–"],
    ]
    assert read.classes == [None, "learned", "heuristic", "heuristic"]


def test_the_judge_and_its_limits(tmp_path):
    report = {
        "pairs": 12,
        "prompts": 4,
        "left_out": 1,
        "folds": 4,
        "accuracy": 0.875,
        "accuracy_by_corruption": {"shuffled": 1.0, "truncated": 0.75},
        "accuracy_corruption_left_out": {"shuffled": 0.5, "truncated": None},
        "weights": {"relevance": 1.5},
        "limits": "It cannot tell a < b.",
    }
    tournaments = {"groups": 3, "first_preference": None, "failure_reasons": {}, "judge": {"kind": "feature_reward"}}
    judge_page(tournaments, [], {"feature_reward": report}, tmp_path / "j.html")
    read = Reader((tmp_path / "j.html").read_text(encoding="utf-8"))
    assert ["shuffled", "1.000", "0.500"] in read.rows and ["truncated", "0.750", "–"] in read.rows
    assert ["tournaments", "3"] in read.rows
    assert ["mean probability of the answer shown first", "–"] in read.rows
    assert "It cannot tell a < b." in read.texts["p"] and "0.875" in read.texts["p"][0]
    assert "Why calls failed" not in read.texts["h3"]


def test_each_of_several_embedded_judges_has_its_part(tmp_path):
    report = {"pairs": 8, "left_out": 1, "prompts": 4, "folds": 4, "accuracy": 0.875, "limits": "Few."}
    report |= {"accuracy_by_corruption": {}, "accuracy_corruption_left_out": {}, "weights": {"relevance": 1.5}}
    other = report | {"accuracy": 0.5, "weights": {"finished": 0.25}}
    tournaments = {"judge": {"kind": "feature_reward"}}
    judge_page(tournaments, [], {"feature_reward": report, "text": other}, tmp_path / "j.html")
    read = Reader((tmp_path / "j.html").read_text(encoding="utf-8"))
    assert {"The embedded judge feature_reward", "The embedded judge text"} <= set(read.texts["h2"])
    assert ["relevance", "1.500"] in read.rows and ["finished", "0.250"] in read.rows


def test_a_judge_that_is_a_model(tmp_path):
    measured = {"kind": "pairwise", "model": "gram", "position_bias": 0.125, "orders_disagree": None, "calls_made": 20}
    tournaments = {"calls": 10, "failed": 2, "failure_reasons": {"longer than 9 <tokens>": 2}, "judge": measured}
    judge_page(tournaments, [], {}, tmp_path / "j.html")
    read = Reader((tmp_path / "j.html").read_text(encoding="utf-8"))
    assert ["model", "gram"] in read.rows and ["comparisons asked for", "10"] in read.rows
    assert ["share of comparisons that failed", "0.200"] in read.rows
    assert ["longer than 9 <tokens>", "2"] in read.rows
    assert "position bias" in str(read.rows) and "0.125" in str(read.rows) and "limits" not in str(read.texts).lower()


def test_each_of_several_judges_has_a_column(tmp_path):
    first = {"groups": 3, "calls": 40, "failed": 4, "failure_reasons": {"gone": 4}, "judge": {"kind": "pairwise"}}
    second = {
        "groups": 3,
        "calls": 9,
        "failed": 0,
        "failure_reasons": {},
        "judge": {"kind": "scalar", "answers_rated": 7},
    }
    found = {"agreement": [{"judges": ["a", "b"], "kendall_tau": 0.5, "top_1": None, "groups": 2}]}
    found |= {"answers_rated": {"all": 1200, "some": 2, "none": 1}}
    judge_page(combined_report({"a": first, "b": second}, "mean", found), [], {}, tmp_path / "j.html")
    read = Reader((tmp_path / "j.html").read_text(encoding="utf-8"))
    assert ["kind", "pairwise", "scalar"] in read.rows and ["answers rated", "–", "7"] in read.rows
    assert ["comparisons asked for", "40", "9"] in read.rows
    assert ["share of comparisons that failed", "0.100", "0.000"] in read.rows
    assert ["a and b", "0.500", "–", "2"] in read.rows and ["gone", "4"] in read.rows
    assert any("mean of standardized ratings. 1,200 answers" in text for text in read.texts["p"])
    assert "Why calls of a failed" in read.texts["h3"] and "Why calls of b failed" not in read.texts["h3"]


def test_every_row_that_is_not_complete_is_listed(tmp_path):
    row = {"prompt_id": "p1", "heuristic_id": "h1", "seed": 2}
    report = {
        "expected": 24,
        "found": 23,
        "missing": [row],
        "duplicated": [],
        "failed": [{**row, "error": "<oom>"}],
        "dropped_prompts": ["p1"],
        "finish_reasons": {"stop": 22, "error": 1},
    }
    completeness_page({"heuristics": report}, tmp_path / "c.html")
    read = Reader((tmp_path / "c.html").read_text(encoding="utf-8"))
    assert read.rows[1] == ["heuristics", "24", "23", "1", "0", "1", "1"]
    texts = "\n".join(read.texts["p"])
    assert str(row) in texts and "<oom>" in texts and "dropped_prompts: p1" in texts and "'stop': 22" in texts


def test_rows_that_a_report_does_not_list_are_counted(tmp_path):
    row = {"prompt_id": "p1", "heuristic_id": "h1", "seed": 2}
    report = {"expected": 24, "found": 9, "missing": [row], "duplicated": [], "failed": [], "dropped_prompts": ["p1"]}
    report |= {"finish_reasons": {"stop": 9}, "unlisted": {"missing": 14, "duplicated": 0, "failed": 0}}
    completeness_page({"heuristics": report}, tmp_path / "c.html")
    read = Reader((tmp_path / "c.html").read_text(encoding="utf-8"))
    assert read.rows[1] == ["heuristics", "24", "9", "15", "0", "0", "1"]
    assert [text for text in read.texts["p"] if "more" in text] == ["heuristics, missing: and 14 more"]


def test_provenance_names_versions_and_commit():
    made = provenance.provenance({"seed": 3}, "numpy", "no-such-package", answers=["a"])
    assert made["settings"] == {"seed": 3} and made["answers"] == ["a"]
    assert made["versions"]["numpy"] == np.__version__ and made["versions"]["no-such-package"] == "not installed"
    assert {"python", "adaptive_samplers"} <= set(made["versions"])


def test_the_commit_says_whether_files_were_changed(tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tmp_path)]
    module = tmp_path / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert provenance.commit() is None  # no repository
    module.write_text("one")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"], ["tag", "-a", "v1", "-m", "v1"]):
        subprocess.run([*git, *command], check=True)
    clean = provenance.commit()
    assert re.fullmatch("[0-9a-f]{40}", clean)
    module.write_text("two")
    assert provenance.commit() == f"{clean}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit() is None  # no git


@pytest.mark.parametrize("packages", [(), ("torch",)])
def test_versions_can_be_compared(packages):
    assert set(provenance.versions(*packages)) == {"adaptive_samplers", "python", *packages}


def test_the_caption_knows_every_feature():
    for feature in JUDGE_FEATURES:
        judge = {"kind": "feature_reward", "pairs": "p", "features": [feature]}
        text = judge_caption({"judge": judge, "others": [], "combine": "first"})
        assert re.search(r"features of an answer:\n\w[^\n]{10,}\. It was trained on\n", text), text


def judge_caption(quality):
    template = Template((REPOSITORY / "report" / "judge.rst").read_text())
    return template.render(snakemake=SimpleNamespace(config={"labels": {"quality": quality}}))


@pytest.mark.parametrize(
    ("judge", "said", "unsaid"),
    [
        (
            {"kind": "feature_reward", "pairs": "p.jsonl", "features": ["relevance", "mean_logprob"]},
            ["relevance to the prompt by embedding, mean log-probability of its tokens. It", "p.jsonl", "rated higher"],
            ["reward model ``", "No feature is"],
        ),
        (
            {"kind": "feature_reward", "pairs": "p.jsonl", "features": list(TEXT_FEATURES)},
            ["distinct words in windows", "No feature is a log-probability"],
            ["rated higher", "mean log-probability"],
        ),
        ({"kind": "scalar", "name": "skywork"}, ["reward model ``skywork``"], ["features of an answer", "position"]),
        ({"kind": "pairwise", "name": "gram", "order": "both"}, ["``gram``", "either answer first"], ["asked once"]),
        (
            {"kind": "pairwise", "name": "gram", "order": "one"},
            ["asked once"],
            ["features of an answer", "either answer first"],
        ),
        (
            {"kind": "likelihood", "name": "smollm"},
            ["log-probabilities", "``smollm``"],
            ["shown two answers", "position"],
        ),
        (
            {"kind": "endpoint", "name": "big", "order": "one"},
            ["``big``", "asked once"],
            ["features of an answer", "first judge"],
        ),
    ],
)
def test_the_caption_tells_of_the_judge_in_use(judge, said, unsaid):
    text = judge_caption({"judge": judge, "others": [], "combine": "first"})
    assert all(words in text for words in said) and not any(words in text for words in unsaid)
    assert not text.startswith((" ", "\n")) and "{%" not in text


def test_the_caption_tells_of_several_judges():
    others = [{"kind": "feature_reward", "pairs": "p.jsonl"}, {"kind": "endpoint", "name": "big"}]
    quality = {"judge": {"kind": "scalar", "name": "skywork"}, "others": others}
    text = judge_caption({**quality, "combine": "mean"})
    assert "2 more rated" in text and "``feature_reward`` (feature_reward), ``big`` (endpoint)." in text
    assert "is the mean of" in text and "for comparison" not in text
    assert "for comparison" in judge_caption({**quality, "combine": "first"})


def test_reasons_of_failed_calls_are_shown_whatever_they_hold(tmp_path):
    reason = "HTTP 500: \ud800\x1b[31m\u202e<b>"
    parts = judge_parts({"calls": 2, "failed": 1, "failure_reasons": {reason: 1}, "judge": {"kind": "pairwise"}}, [])
    page("Labels", parts, tmp_path / "labels.html")
    text = (tmp_path / "labels.html").read_text(encoding="utf-8")
    assert r">\ud800</span>" in text and r">\x1b</span>[31m" in text and r">\u202e</span>&lt;b&gt;" in text
    assert not set(text) & {"\x1b", "\u202e"}
