"""Explanations: every number against one computed otherwise, draws against the engine, and texts that try to escape."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.engines.base import Request
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.errors import UserError
from adaptive_samplers.explain.__main__ import main
from adaptive_samplers.explain.asking import Compared, asked_for, conversation, parse_chain
from adaptive_samplers.explain.models import language_models, opened
from adaptive_samplers.explain.page import explanation_page
from adaptive_samplers.explain.steps import Asked, explain
from adaptive_samplers.explain.terminal import as_text
from adaptive_samplers.explain.text import fitted, visible_token, width
from adaptive_samplers.explain.ways import RAW, Mixture, Way, chain_way, families, sampler_ways
from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics import apply_along_answers, configured_pipeline, parse_processors, sort_logits
from adaptive_samplers.randomness import sample_seed, uniforms
from adaptive_samplers.samplers import AdaptiveSampler, build_sampler
from adaptive_samplers.tables import write_table
from support import REPOSITORY, SMOKE, changed

MESSAGES = conversation("Write a short poem about the sea.")
TOP_P = configured_pipeline([{"temperature": 0.7}, {"top_p": 0.8}])
MIN_P = configured_pipeline([{"min_p": 0.2}])
MIROSTAT = configured_pipeline([{"mirostat": {"tau": 2.0, "eta": 0.5}}])
HEURISTICS = Heuristics(
    grid=[
        {"family": "temperature", "temperatures": [0.3, 0.5, 1.0, 1.5]},
        {"family": "top_k", "values": [3, 10, 30], "temperatures": [0.7, 1.0]},
    ],
    pipelines=[[{"top_k": 20}, {"top_p": 0.9}]],
    verbalized=[{}],
    official={"steps": [{"top_p": 0.95}], "temperatures": [0.6]},
)
HOSTILE = "</script><img src=x onerror=alert(1)>\"'`${1}\n\u202eabc\x07 &lt; \u05e9\u05dc\u05d5\u05dd \U0001f600"


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samplers") / "LocalProbabilityTransform" / "a0_b1_c0_top2"
    build_sampler("LocalProbabilityTransform", {"hidden_dims": 6}, seed=1).save_pretrained(folder)
    return str(folder)


def engine_answer(model, messages, pipeline, seed, tokens, run_seed=20260101, stop=()):
    """What generation answers, by its own engine."""
    key = sample_seed(run_seed, content_id(messages), seed)
    request = Request(tuple(model.encode_chat(messages)), pipeline, key, tokens, stop)
    (completion,) = TransformersEngine(model, batch_size=4).generate([request])
    return completion


def distributions(model, explanation, pipeline_of=None):
    """The raw probabilities before each token of the answer, float64 [L, V], by reading prompt and answer as one."""
    prompt = model.encode_chat(explanation.messages)
    answer = [step.token.id for step in explanation.steps]
    with torch.no_grad():
        logits = model.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return np.exp(logits.double().numpy()) / np.exp(logits.double().numpy()).sum(-1, keepdims=True)


def top_p_at(p, temperature, mass):
    """Temperature, then top-p, written out in float64."""
    heated = p ** (1 / temperature)
    heated /= heated.sum()
    order = np.argsort(-heated, kind="stable")
    before = heated[order].cumsum() - heated[order]
    kept = np.zeros_like(p)
    kept[order[before < mass]] = heated[order[before < mass]]
    return kept / kept.sum()


def entropy(p):
    return -sum(x * math.log(x) for x in p if x > 0)


@pytest.fixture(scope="module")
def explained(tiny_model, sampler):
    chain, (learned,) = chain_way(TOP_P), sampler_ways(sampler, [])
    mixture = Mixture("some", {configured_pipeline([{"temperature": 0.5}]): 0.25, TOP_P: 0.75})
    asked = Asked(MESSAGES, [chain, learned], families(HEURISTICS), learned, mixture, seed=3, tokens=10, top=7)
    return explain(tiny_model, asked)


def test_every_number_against_its_definition(tiny_model, sampler, explained):
    raw = distributions(tiny_model, explained)
    network = AdaptiveSampler.from_pretrained(sampler)
    numbers = uniforms(sample_seed(20260101, content_id(MESSAGES), 3), 10)
    names = ["raw", "target: some", "temperature_0.7+top_p_0.8", "LocalProbabilityTransform a0_b1_c0 top2"]
    assert [way.name for way in explained.ways] == names and explained.target == 1 and explained.followed == 3
    for place, step in enumerate(explained.steps):
        p = raw[place]
        with torch.no_grad():
            learned = network.logits(torch.from_numpy(np.log(p))[None].float())[0].double().softmax(-1).numpy()
        cooled = p**2 / (p**2).sum()
        chain = top_p_at(p, 0.7, 0.8)
        wanted = [p, 0.25 * cooled + 0.75 * chain, chain, learned]
        order = np.argsort(-p, kind="stable")
        assert step.uniform == numbers[place]
        shown = [token.id for token in step.shown]
        assert shown[:7] == order[:7].tolist() and step.token.id in shown
        assert order[step.rank] == step.token.id and step.greedy.id == order[0]
        assert step.surprise == pytest.approx(-math.log(p[step.token.id]), rel=1e-4)
        for seen, q in zip(step.seen, wanted, strict=True):
            np.testing.assert_allclose(seen.probabilities, q[shown], rtol=2e-3, atol=1e-9)
            assert seen.rest == pytest.approx(1 - q[shown].sum(), abs=1e-5)
            assert seen.entropy == pytest.approx(entropy(q), rel=1e-3, abs=1e-6)
            assert seen.kept == (q > 0).sum()
            assert seen.kept_mass == pytest.approx(p[q > 0].sum(), rel=1e-4)
            # The inverse of the distribution function, along the order of the raw logits.
            upto = q[order].cumsum()
            drawn = order[np.searchsorted(upto, step.uniform, side="right")]
            near = np.abs(upto - step.uniform).min() < 1e-6
            assert near or seen.drawn.id == drawn
            assert seen.low - 1e-9 <= step.uniform < seen.high + 1e-9
            assert seen.high - seen.low == pytest.approx(q[seen.drawn.id], rel=2e-3)
            outside = (wanted[1] > 0) & (q == 0)
            if outside.any():
                assert seen.divergence == math.inf
            else:
                there = wanted[1] > 0
                kl = (wanted[1][there] * np.log(wanted[1][there] / q[there])).sum()
                assert seen.divergence == pytest.approx(kl, rel=5e-3, abs=1e-6)
        assert step.seen[3].drawn == step.token


def test_chains_and_samplers_answer_as_generation_does(tiny_model, sampler):
    (learned,) = sampler_ways(sampler, [])
    mirostat = chain_way(MIROSTAT)
    differing = 0
    for followed in (RAW, chain_way(TOP_P), chain_way(MIN_P), mirostat, learned):
        others = [way for way in (mirostat, learned) if way != followed]
        for seed in range(6):
            ways = [way for way in (followed, *others) if way != RAW]
            asked = Asked(MESSAGES, ways, families(HEURISTICS), followed, seed=seed, run_seed=5, tokens=9)
            explanation = explain(tiny_model, asked)
            completion = engine_answer(tiny_model, MESSAGES, followed.pipeline, seed, 9, run_seed=5)
            ids = [step.token.id for step in explanation.steps]
            ended = ids[-1] in tiny_model.end_token_set
            assert ids[: len(ids) - ended] == completion.token_ids
            assert explanation.text == completion.text and explanation.finish_reason == completion.finish_reason
            differing += any(seen.drawn != step.token for step in explanation.steps for seen in step.seen)
    assert differing > 10


def test_a_stateful_chain_follows_an_answer_that_another_drew(tiny_model):
    """As recorded answers are followed when samplers are trained and figures drawn."""
    asked = Asked(MESSAGES, [chain_way(TOP_P), chain_way(MIROSTAT)], [], chain_way(TOP_P), tokens=12, top=400)
    explanation = explain(tiny_model, asked)
    logits = torch.from_numpy(np.log(distributions(tiny_model, explanation))).float()
    t, _ = sort_logits(logits)
    ids = torch.tensor([step.token.id for step in explanation.steps])
    chosen = logits.log_softmax(-1).gather(1, ids[:, None]).squeeze(1)
    expected = apply_along_answers(t, None, [0, len(t)], [MIROSTAT], chosen)
    kept = [step.seen[2].kept for step in explanation.steps]
    assert kept == expected.n.sum(-1).int().tolist() and len(set(kept)) > 2


def test_strings_that_end_an_answer_end_it(tiny_model):
    whole = engine_answer(tiny_model, MESSAGES, MIN_P, 0, 12)
    stop = (whole.text[3:6],)
    completion = engine_answer(tiny_model, MESSAGES, MIN_P, 0, 12, stop=stop)
    explanation = explain(tiny_model, Asked(MESSAGES, [chain_way(MIN_P)], [], chain_way(MIN_P), tokens=12, stop=stop))
    assert (explanation.text, explanation.finish_reason) == (completion.text, "stop")
    assert [step.token.id for step in explanation.steps] == completion.token_ids


def test_one_setting_of_each_family_and_every_chain():
    names = [way.name for way in families(HEURISTICS)]
    # In the middle; of the even numbers of temperatures, the later one.
    assert names == ["temperature_1", "top_k_10", "temperature_0.6+top_p_0.95", "top_k_20+top_p_0.9"]


def test_what_a_sampler_imitated(tmp_path):
    def row(name, split, tokens, finish):
        return {
            **{"prompt_id": name, "heuristic_id": "h", "seed": 0, "weights": "a0_b1_c0", "top_k": 1, "rank": 1},
            **{"score": 0.0, "split": split, "answer_id": name, "prompt_token_ids": [1], "token_ids": tokens},
            "finish_reason": finish,
            "processors": json.dumps([{"name": "temperature", "params": {"temperature": len(name) / 2}}]),
        }

    rows = [row("a", "train", [1, 2], "stop"), row("bb", "train", [1] * 9, "length"), row("ccc", "test", [1], "stop")]
    write_table("training_sets", rows, tmp_path / "a0_b1_c0_top1.parquet")
    mixture = Mixture.of_training_set(tmp_path / "a0_b1_c0_top1.parquet")
    shares = {configured_pipeline([{"temperature": 0.5}]): 3 / 12, configured_pipeline([{"temperature": 1.0}]): 9 / 12}
    assert mixture.shares == pytest.approx(shares) and mixture.name == "a0_b1_c0_top1"
    write_table("training_sets", rows[2:], tmp_path / "untrained.parquet")
    with pytest.raises(UserError, match="holds no answer to a training prompt"):
        Mixture.of_training_set(tmp_path / "untrained.parquet")


def test_the_target_is_the_chain_where_nothing_else_is_known(tiny_model, sampler):
    ways = [chain_way(TOP_P), *sampler_ways(sampler, [])]
    assert explain(tiny_model, Asked(MESSAGES, ways, [], RAW, tokens=1)).target == 1
    assert explain(tiny_model, Asked(MESSAGES, ways[1:], [], RAW, tokens=1)).target is None
    alone = explain(tiny_model, Asked(MESSAGES, ways[:1], [], RAW, tokens=1))
    assert alone.target is None and alone.steps[0].seen[0].divergence is None


def test_a_sampler_for_a_whole_front_is_shown_at_each_preference(tmp_path):
    folder = str(tmp_path / "ConditionedSamplingNetwork" / "a0_b1_c0_front")
    options = {"d_model": 8, "d_ff": 8, "n_blocks": 1, "n_heads": 2}
    build_sampler("ConditionedSamplingNetwork", options, seed=1).save_pretrained(folder)
    names = [way.name for way in sampler_ways(folder, [0.0, 0.5])]
    assert names == [f"ConditionedSamplingNetwork a0_b1_c0 front preference {value}" for value in ("0", "0.5")]
    elsewhere = tmp_path / "mine"
    build_sampler("LocalProbabilityTransform", {"hidden_dims": 6}, seed=1).save_pretrained(elsewhere)
    (way,) = sampler_ways(str(elsewhere), [0.0, 0.5])
    assert way.name.endswith("/mine") and way.preference is None and way.architecture is None


@pytest.mark.parametrize("columns", [20, 40, 60, 100, 200])
def test_the_text_fits_its_columns_and_has_every_number(explained, columns):
    text = as_text(explained, columns)
    assert max(map(width, text.splitlines())) <= max(columns, 31)
    for step in explained.steps:
        assert f"{step.uniform:.4f}" in text
        for seen in step.seen:
            assert f"{seen.entropy:.2f}" in text and f"{seen.probabilities[0]:.4f}" in text
    assert "\x1b" not in text and text.count("entropy, nats") >= len(explained.steps)
    colored = as_text(explained, columns, color=True)
    assert re.sub(r"\x1b\[\d+m", "", colored) == text and colored != text


def test_texts_of_tokens_are_visible():
    assert visible_token(" a b ") == "␣a b␣" and visible_token("\n") == "↵" and visible_token("") == "(empty)"
    assert visible_token("\x1b[31m\u202e\u2028") == r"\x1b[31m\u202e\u2028"
    assert fitted("海海海", 5) == "海海…" and width("海e\u0301") == 3 and fitted("a", 3) == "a  "


def data_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    (found,) = re.findall(r"<script type='application/json' id='data'>(.*?)</script>", text, re.DOTALL)
    return json.loads(found)


def test_the_page_holds_the_numbers(explained, tmp_path):
    explanation_page(explained, "tiny", tmp_path / "page.html")
    data = data_of(tmp_path / "page.html")
    assert [way["name"] for way in data["ways"]] == [way.name for way in explained.ways]
    for written, step in zip(data["steps"], explained.steps, strict=True):
        assert written["uniform"] == pytest.approx(step.uniform, rel=1e-5)
        assert [token for token, _ in written["shown"]] == [token.id for token in step.shown]
        for one, seen in zip(written["seen"], step.seen, strict=True):
            np.testing.assert_allclose(one["p"], seen.probabilities, rtol=1e-5)
            assert one["drawn"][0] == seen.drawn.id and one["kept"] == seen.kept
        names = [name for _, names in written["draws"] for name in names]
        everyone = [*(way.name for way in explained.ways), *(way.name for way in explained.others), "greedy"]
        assert sorted(names) == sorted(set(everyone))
    assert "http" not in re.sub(r"http-equiv|http://www\.w3\.org/2000/svg", "", (tmp_path / "page.html").read_text())


def test_hostile_texts_stay_texts(tiny_model, tmp_path):
    way = Way(f"<b>{HOSTILE}", "chain", MIN_P)
    asked = Asked(conversation(HOSTILE), [way], [], way, tokens=3)
    explanation = explain(tiny_model, asked)
    explanation_page(explanation, HOSTILE, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<img" not in text and "\u202e" not in text and "\x07" not in text and text.count("</script>") == 2
    assert data_of(tmp_path / "page.html")["ways"][1]["name"] == visible_token(way.name)
    printed = as_text(explanation, 60)
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", printed)


@pytest.mark.parametrize(
    "prompt, system, complaint",
    [
        (" \n", None, "the prompt is empty"),
        ("Hi", " ", "the prompt is empty"),
        ("\udcff", None, "not valid UTF-8"),
    ],
)
def test_prompts_that_are_none(prompt, system, complaint):
    with pytest.raises(UserError, match=complaint):
        conversation(prompt, system)


def test_chains_as_configs_write_them():
    assert parse_chain("[{temperature: 0.7}, {top_p: 0.8}]") == TOP_P
    assert parse_chain("min_p: 0.2") == MIN_P


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("top_p", "is no chain"),
        ("[]", "is no chain"),
        ("{top_p: 0.9, min_p: 0.1}", "is no chain"),
        ("[{top_p: 0.9}", "is not YAML"),
        ("top_p: 2", r"--chain\[0\].top_p: 2 is out of range"),
        ("top_q: 0.9", "unknown processor.*top_p"),
        ("learned: nowhere", "does not exist"),
    ],
)
def test_chains_that_are_none(text, complaint):
    with pytest.raises(UserError, match=complaint):
        parse_chain(text)


def test_what_draws_the_answer():
    ways = [chain_way(TOP_P), Way("s", "sampler", parse_processors([{"name": "learned", "params": {"path": "s"}}]))]
    assert Compared().followed(ways) == ways[1] and Compared().followed(ways[:1]) == ways[0]
    assert Compared().followed([]) == RAW and Compared(follow="raw").followed(ways) == RAW
    assert Compared(follow="chain").followed(ways) == ways[0]
    with pytest.raises(UserError, match="--follow sampler: there is no sampler"):
        Compared(follow="sampler").followed(ways[:1])


def tiny_config(model_folder, *changes):
    source = ("model.source", {"kind": "folder", "path": str(model_folder)})
    config = changed(SMOKE, ("model.name", "tiny"), source, ("run.name", "explained"), *changes)
    return load_config(config, REPOSITORY)


def test_the_models_of_a_config(tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = {"name": "other", "source": {"kind": "folder", "path": str(tiny_model_folder)}}
    config = typed_config(tiny_config(tiny_model_folder, ("policy_samples.policies", [policy])))
    assert list(language_models(config)) == ["tiny", "other"]
    for name in (None, "tiny", "other", str(tiny_model_folder)):
        with opened(config, name) as model:
            assert model.size == 371 or model.size > 300
    with (
        pytest.raises(UserError, match="--model none: no such model; the config has tiny, other"),
        opened(config, "none"),
    ):
        pass


def test_the_run_s_heuristics_are_drawn_with_and_none_twice(tiny_model_folder):
    config = typed_config(tiny_config(tiny_model_folder))
    asked = asked_for(config, MESSAGES, Compared([configured_pipeline([{"top_p": 0.9}])]), 0, 4, 5)
    # top_p_0.9 is compared already.
    assert [way.name for way in asked.others] == ["temperature_1", "min_p_0.1"]


def test_the_command(tiny_model_folder, sampler, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resources").symlink_to(REPOSITORY / "resources")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tiny_config(tiny_model_folder)))
    asked = ["--config", "config.yaml", "--prompt", "What is a river?", "--tokens", "3"]
    main([*asked, "--sampler", sampler, "--chain", "top_p: 0.5", "--output", "out/a.html"])
    printed = capsys.readouterr().out
    assert "LocalProbabilityTransform a0_b1_c0 top2" in printed and "top_p_0.5" in printed
    assert len(data_of(tmp_path / "out" / "a.html")["steps"]) == 3
    main(asked)
    told = capsys.readouterr()
    assert "has no sampler" in told.err and data_of(tmp_path / "explain.html")["ways"][0]["name"] == "raw"
    for wrong, complaint in [
        (["--tokens", "0"], "--tokens: is 0"),
        (["--seed", "-1"], "--seed: is -1"),
        (["--tokens", "999"], "context"),
        (["--sampler", sampler, "--preference", "0.5"], "none of the samplers takes one"),
        (["--sampler", str(tmp_path / "nowhere")], "nowhere"),
        (["--sampler", "nobody/nothing"], "nobody/nothing: is no folder here and could not be fetched"),
        (["--follow", "chain"], "there is no chain"),
    ]:
        with pytest.raises(UserError, match=complaint):
            main([*asked, *wrong])
