"""Portraits against brute force over small vocabularies: what is known of a sampler is found again."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize_scalar
from test_sketch import zipf_logits

import adaptive_samplers.portraits.portray as portraying
from adaptive_samplers.bootstrap import resampled_counts
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import write_json
from adaptive_samplers.heuristics import HEURISTICS, apply_to_logits, configured_pipeline, is_stateful
from adaptive_samplers.off_policy.draws import RecordedDraws
from adaptive_samplers.off_policy.shards import SketchShard
from adaptive_samplers.portraits.closed_form import fit_closed_form
from adaptive_samplers.portraits.closest import Applied, fit_chain
from adaptive_samplers.portraits.effects import effective_temperature, effects, entropy_bins, kept
from adaptive_samplers.portraits.families import SEARCHED, STATEFUL, axes, chains, family, pipeline_at
from adaptive_samplers.portraits.portray import KNOTS, Intervals, closed_forms, closest_heuristics, portray
from adaptive_samplers.portraits.states import (
    Distributions,
    States,
    interval,
    kl_divergence,
    read_states,
    total_variation,
)
from adaptive_samplers.portraits.statistics import ALL, permutation_importance, regress
from adaptive_samplers.portraits.tables import read_portraits, write_portraits
from adaptive_samplers.samplers import AdaptiveSampler, build_sampler, evaluated
from adaptive_samplers.sketch import DistributionSketch

ROWS, VOCABULARY = 48, 300
LOGITS = zipf_logits(ROWS, VOCABULARY).double()
INTERVALS = Intervals(resamples=50, confidence=0.9, seed=1)


def states_of(logits: torch.Tensor) -> States:
    """A point for each token, in the order of the sketch: nothing is approximate."""
    t = logits.log_softmax(-1).sort(-1, descending=True).values
    return States(t, torch.ones_like(t), np.arange(len(t)) // 4)


STATES = states_of(LOGITS)
OTHERS = states_of(zipf_logits(ROWS, VOCABULARY, seed=7).double())


def by(*chain) -> Distributions:
    """What a chain makes of the states."""
    return Applied(STATES)(configured_pipeline(chain))


def soft(made: Distributions, states: States = STATES) -> Distributions:
    """What a sampler that has learned these would make: tokens that were cut keep almost no probability."""
    logits = torch.where(made.counts > 0, made.log_probs, states.t - 60)
    return Distributions.of_logits(logits, states.n)


class Heated(AdaptiveSampler):
    """A sampler that is a temperature of 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def smooth_and_truncation(self, t, n):
        return self.scale * t, torch.ones(len(t), 1).to(t), torch.full((len(t), 1), 1e4).to(t)


def test_divergences_are_those_of_whole_vocabularies():
    first, second = LOGITS.log_softmax(-1), (LOGITS / 0.6).log_softmax(-1)
    kl = (first.exp() * (first - second)).sum(-1)
    made = by({"temperature": 0.6})
    torch.testing.assert_close(kl_divergence(STATES.raw, made), kl, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        total_variation(STATES.raw, made), (first.exp() - second.exp()).abs().sum(-1) / 2, rtol=1e-10, atol=1e-12
    )


def test_what_a_heuristic_cuts_is_infinitely_far_in_one_direction_only():
    cut = by({"top_k": 5})
    assert kl_divergence(STATES.raw, cut).isinf().all()
    kept_probs = LOGITS.softmax(-1).sort(-1, descending=True).values[:, :5].sum(-1)
    torch.testing.assert_close(kl_divergence(cut, STATES.raw), -kept_probs.log(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(total_variation(cut, STATES.raw), 1 - kept_probs, rtol=1e-9, atol=1e-12)


def test_groups_of_a_sketch_count_as_their_tokens():
    sketch = DistributionSketch.from_logits(zipf_logits(8, 5000), 64, 64)
    states = States(sketch.t.double(), sketch.n.double(), np.zeros(8, dtype=int))
    cut = Applied(states)(configured_pipeline([{"top_k": 2000}]))
    held = (states.raw.masses * (cut.counts / states.n)).sum(-1)
    assert ((held > 0.5) & (held < 1)).all()
    torch.testing.assert_close(total_variation(cut, states.raw), 1 - held, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "chain",
    [
        [{"temperature": 0.7}],
        [{"temperature": 0.7}, {"min_p": 0.1}],
        [{"top_k": 7}],
        [{"temperature": 1.3}, {"top_k": 12}],
        [{"top_p": 0.8}],
        [{"epsilon": 0.01}],
        [{"entropy_temperature": {"temperature": 0.8, "theta": 0.5}}],
    ],
)
def test_a_sampler_that_is_a_heuristic_is_found_with_its_parameters(chain):
    pipeline = configured_pipeline(chain)
    learned = soft(Applied(STATES)(pipeline))
    names = tuple(step.name for step in pipeline)
    found = fit_chain(names, STATES, learned)
    assert float(kl_divergence(Applied(STATES)(found), learned).mean()) < 2e-3
    for step, wanted in zip(found, pipeline, strict=True):
        assert step.values == pytest.approx(wanted.values, rel=0.06), (found, pipeline)


@pytest.mark.parametrize("name", ["top_p", "min_p", "epsilon", "eta"])
def test_a_cut_that_is_of_no_use_is_found_to_be_none(name):
    """The best place is at an end of the cut's axis, where searches get stuck."""
    learned = by({"temperature": 0.85})
    found = fit_chain(("temperature", name), STATES, learned)
    assert found[0].values[0] == pytest.approx(0.85, rel=0.01)
    assert float(kl_divergence(Applied(STATES)(found), learned).mean()) < 2e-3


def test_the_nearest_of_all_is_marked_and_explains_almost_everything():
    learned = soft(by({"temperature": 0.7}, {"min_p": 0.1}))
    rows = closest_heuristics(STATES, learned, INTERVALS)
    assert [row["chain"] for row in rows] == ["+".join(chain) for chain in chains()]
    [nearest] = [row for row in rows if row["closest"]]
    assert nearest["family"] == "min_p" and nearest["explained"] > 0.99
    steps = {step["name"]: step["params"] for step in json.loads(nearest["processors"])}
    assert steps["temperature"]["temperature"] == pytest.approx(0.7, rel=0.05)
    assert steps["min_p"]["p"] == pytest.approx(0.1, rel=0.1)
    raw = float(kl_divergence(STATES.raw, learned).mean())
    for row in rows:
        assert row["kl_raw"] == pytest.approx(raw) and row["explained"] == pytest.approx(1 - row["kl"] / raw)
        assert row["kl_low"] <= row["kl"] <= row["kl_high"] and 0 <= row["total_variation"] <= 1
        assert row["explained_low"] <= row["explained"] <= row["explained_high"]
        assert row["states"] == ROWS and row["prompts"] == ROWS // 4


FEW = [("temperature",), ("min_p",), ("temperature", "min_p"), ("top_p", "temperature")]


def test_a_sampler_that_changes_nothing_has_nothing_to_explain(monkeypatch):
    monkeypatch.setattr(portraying, "chains", lambda: FEW)
    rows = closest_heuristics(STATES, STATES.raw, INTERVALS)
    [nearest] = [row for row in rows if row["closest"]]
    assert nearest["heuristic"] == "temperature_1" and nearest["explained"] is None
    assert nearest["kl"] == pytest.approx(0, abs=1e-6)


def test_every_heuristic_is_looked_at_or_said_not_to_be():
    assert set(SEARCHED) | set(STATEFUL) == set(HEURISTICS)
    for name, of_name in SEARCHED.items():
        allowed = list(HEURISTICS[name].parameters.values())
        assert len(of_name) == len(allowed)
        for axis, numbers in zip(of_name, allowed, strict=True):
            assert axis.low in numbers and axis.high in numbers
            assert axis.value(0) == pytest.approx(axis.low) and axis.value(1) == pytest.approx(axis.high)
    for chain in chains():
        pipeline = pipeline_at(chain, [0.5] * len(axes(chain)))
        assert tuple(step.name for step in pipeline) == chain and not is_stateful(pipeline)
    assert {family(chain) for chain in chains()} == set(SEARCHED) | {"top_k+top_p"}


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 1.8])
def test_the_effective_temperature_of_a_temperature_is_that(temperature):
    found = effective_temperature(STATES, by({"temperature": temperature}))
    assert found.numpy() == pytest.approx(temperature, rel=1e-9)


def test_the_effective_temperature_is_the_nearest():
    made = by({"temperature": 1.2}, {"min_p": 0.05})
    found = effective_temperature(STATES, made)
    for row in range(0, ROWS, 7):
        there = made.counts[row] > 0
        q, log_q, t = made.masses[row][there], made.log_probs[row][there], STATES.t[row]

        def kl(x: float, q=q, log_q=log_q, t=t, there=there) -> float:
            return float((q * (log_q - (t / math.exp(x)).log_softmax(-1)[there])).sum())

        nearest = minimize_scalar(kl, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
        assert math.log(found[row]) == pytest.approx(nearest.x, abs=1e-5)
    assert (found < 1.2).all()  # a cut counts as cooling


def test_where_all_tokens_are_alike_there_is_no_temperature():
    flat = states_of(torch.zeros(2, 10, dtype=torch.float64))
    assert effective_temperature(flat, flat.raw).isnan().all()


def test_kept_tokens_are_counted_as_over_the_vocabulary():
    made = by({"temperature": 0.8})
    mass, count = kept(STATES, made)
    for row in range(ROWS):
        heated = (LOGITS[row] / 0.8).softmax(-1).sort(descending=True)
        wanted = int((heated.values.cumsum(0) < 0.99).sum()) + 1
        assert count[row] == wanted
        assert float(mass[row]) == pytest.approx(float(LOGITS[row].softmax(-1)[heated.indices[:wanted]].sum()))


def test_a_cut_keeps_what_it_leaves():
    mass, count = kept(STATES, by({"top_k": 5}), share=1.0)
    assert (count == 5).all()
    torch.testing.assert_close(mass, STATES.raw.masses[:, :5].sum(-1))
    found = effects(STATES, STATES.raw)
    assert (found.kept_mass >= 0.99).all() and found.effective_temperature.numpy() == pytest.approx(1)


def test_bins_hold_about_as_many_states_in_the_order_of_entropy():
    bins = entropy_bins(STATES.entropy, 5)
    assert np.bincount(bins).tolist() == [10, 10, 9, 10, 9]
    entropy = STATES.entropy.numpy()
    assert all(entropy[bins == b].max() <= entropy[bins == b + 1].min() for b in range(4))


@pytest.mark.parametrize("coordinate", ["log_prob", "below_largest"])
@pytest.mark.parametrize("temperature", [0.6, 1.5])
def test_the_closed_form_of_a_temperature_is_exact(coordinate, temperature):
    def heated(states):
        return Applied(states)(configured_pipeline([{"temperature": temperature}]))

    form = fit_closed_form(STATES, heated(STATES), 4, coordinate)
    assert float(kl_divergence(heated(STATES), form.under(STATES)).max()) < 1e-6
    assert float(kl_divergence(heated(OTHERS), form.under(OTHERS)).max()) < 1e-6


def test_a_closed_form_has_the_least_loss_and_more_knots_have_less():
    learned = soft(by({"temperature": 0.7}, {"min_p": 0.1}))
    losses = {}
    for knots in KNOTS:
        form = fit_closed_form(STATES, learned, knots, "below_largest")
        losses[knots] = float(kl_divergence(learned, form.under(STATES)).mean())
        generator = np.random.default_rng(0)
        for _ in range(20):
            moved = form.values + 0.01 * generator.normal(size=form.values.shape)
            other = type(form)(form.knots, moved, form.coordinate, form.statistics)
            assert float(kl_divergence(learned, other.under(STATES)).mean()) > losses[knots] - 1e-7
    assert sorted(losses.values(), reverse=True) == [*losses.values()]


def test_the_snippet_is_the_closed_form_with_the_loss_that_is_stated():
    def made(states):
        return soft(Applied(states)(configured_pipeline([{"temperature": 0.7}, {"min_p": 0.1}])), states)

    rows, form = closed_forms(STATES, made(STATES), OTHERS, made(OTHERS), INTERVALS)
    [stated] = [row for row in rows if row["copied"]]
    code = form.snippet()
    assert len(code.splitlines()) < 15 and set(code.split("\n")[0].split()) == {"import", "numpy", "as", "np"}
    names = {}
    exec(code, names)
    logits = zipf_logits(ROWS, VOCABULARY, seed=7).double()
    new = torch.tensor(np.array([names["logits_to_sample_from"](row) for row in logits.numpy()]))
    order = logits.argsort(-1, descending=True)
    found = new.log_softmax(-1).gather(-1, order)
    learned = made(OTHERS)
    kl = (learned.masses * (learned.log_probs - found)).sum(-1).mean()
    assert float(kl) == pytest.approx(stated["kl"], rel=1e-9)
    # What servers ban stays banned.
    banned = logits[0].numpy().copy()
    banned[3] = -np.inf
    assert names["logits_to_sample_from"](banned)[3] == -np.inf


def test_a_statistic_that_is_not_used_has_no_importance():
    sampler = build_sampler("SimpleDistributionAwareTransform", {"hidden_dims": 8}, seed=1)
    with torch.no_grad():
        for linear in (sampler.global_mlp.gate_proj, sampler.global_mlp.up_proj):
            linear.weight[:, -1] = 0  # the entropy, the last feature
        sampler.truncation_head.weight[:, 1] = 0
    moved = permutation_importance(sampler, STATES, seed=3)
    assert list(moved) == ["largest log-probability", "entropy", ALL]
    assert moved["entropy"].abs().max() < 1e-12
    assert moved["largest log-probability"].mean() > 1e-6
    torch.testing.assert_close(moved[ALL], moved["largest log-probability"])


def test_samplers_without_statistics_have_no_importances():
    for architecture in ("LocalProbabilityTransform", "SamplingNetwork"):
        sampler = build_sampler(architecture, {}, seed=1)
        assert permutation_importance(sampler, STATES, seed=3) == {}
        with pytest.raises(NotImplementedError, match=f"{architecture} reads no statistics"):
            sampler.statistics(STATES.t, STATES.n)


def test_given_statistics_are_those_that_are_read():
    sampler = build_sampler("SimpleDistributionAwareTransform", {"hidden_dims": 8}, seed=1).double()
    own = sampler.statistics(STATES.t, STATES.n)
    assert torch.equal(sampler.with_statistics(STATES.t, STATES.n, own), sampler(STATES.t, STATES.n))
    torch.testing.assert_close(own[:, 1], STATES.entropy)


def test_what_statistics_tell_is_told():
    wanted = [2 * states.entropy - 1 for states in (STATES, OTHERS)]
    found = regress(STATES, wanted[0], OTHERS, wanted[1])
    assert found.r_squared == pytest.approx(1) and found.alone["entropy"] == pytest.approx(1)
    assert found.lost["entropy"] > 1e-3 and found.lost["varentropy"] == pytest.approx(0, abs=1e-9)
    same = torch.ones(ROWS, dtype=torch.float64)
    assert regress(STATES, same, OTHERS, same) is None


def test_intervals_resample_prompts_with_all_their_states():
    generator = np.random.default_rng(0)
    above, below = (torch.tensor(generator.random(ROWS)) for _ in range(2))
    value, low, high = interval(above, below, STATES.prompts, 200, 0.9, seed=5)
    counts = np.concatenate(list(resampled_counts(ROWS // 4, 200, seed=5)))
    sums = [values.numpy().reshape(-1, 4).sum(-1) for values in (above, below)]
    ratios = (counts @ sums[0]) / (counts @ sums[1])
    assert value == pytest.approx(float(above.sum() / below.sum()))
    assert [low, high] == pytest.approx(np.quantile(ratios, [0.05, 0.95]).tolist())
    assert interval(above, torch.zeros(ROWS), STATES.prompts, 20, 0.9, 5) == (None, None, None)


def shard_of(path, answers: dict[str, int], seed: int) -> None:
    """Answers by id with so many steps each."""
    logits = zipf_logits(sum(answers.values()), 400, seed)
    tokens = torch.zeros(len(logits), dtype=torch.int64)
    starts = np.concatenate([[0], np.cumsum(list(answers.values()))]).tolist()
    draws = RecordedDraws.from_logits(logits, tokens, 16, 16, starts)
    SketchShard(list(answers), tokens.int(), draws).save(path, "made")


def test_states_are_drawn_from_the_answers_of_a_split(tmp_path):
    ids = [f"{number:016x}" for number in range(4)]
    shard_of(tmp_path / "one", {ids[0]: 5, ids[1]: 6}, seed=0)
    shard_of(tmp_path / "two", {ids[2]: 7, ids[3]: 8}, seed=1)
    rows = [(ids[0], "a", "train"), (ids[1], "b", "test"), (ids[2], "a", "train"), (ids[3], "c", "validation")]
    answers = pd.DataFrame(rows + rows, columns=["answer_id", "prompt_id", "split"])
    shards = [tmp_path / "one", tmp_path / "two"]
    found = read_states(answers, shards, ("train", "test"), 100, seed=1)
    assert {split: len(states) for split, states in found.items()} == {"train": 12, "test": 6}
    assert set(found["train"].prompts) == {0} and found["train"].t.dtype == torch.float64
    few = read_states(answers, shards[::-1], ("train",), 5, seed=1)["train"]
    assert len(few) == 5
    assert all((found["train"].t == row).all(-1).any() for row in few.t)
    log_probs = zipf_logits(11, 400, 0)[5:].log_softmax(-1)
    torch.testing.assert_close(found["test"].t[:, 0], log_probs.amax(-1).double(), rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match=r"prompt of the test split was selected.*\(scoring\.top_k\)"):
        read_states(answers[answers["split"] != "test"], shards, ("train", "test"), 5, seed=1)


def test_answers_without_sketches_are_named(tmp_path):
    shard_of(tmp_path / "one", {"0" * 16: 5}, seed=0)
    answers = pd.DataFrame({"answer_id": ["0" * 16, "1" * 16], "prompt_id": ["a", "b"], "split": ["test", "train"]})
    with pytest.raises(UserError, match=f"1 selected answers are in no sketch shard, the first: {'1' * 16}"):
        read_states(answers, [tmp_path / "one"], ("test",), 5, seed=1)


def test_a_sketch_with_many_points_is_made_coarser(tmp_path):
    logits = zipf_logits(6, 4000)
    draws = RecordedDraws.from_logits(logits, torch.zeros(6, dtype=torch.int64), 256, 256)
    SketchShard(["0" * 16], torch.zeros(6, dtype=torch.int32), draws).save(tmp_path / "one", "made")
    answers = pd.DataFrame({"answer_id": ["0" * 16], "prompt_id": ["a"], "split": ["test"]})
    states = read_states(answers, [tmp_path / "one"], ("test",), 10, seed=1)["test"]
    assert states.t.shape == (6, 160)
    raw = logits.double().log_softmax(-1)
    torch.testing.assert_close(states.entropy, -(raw.exp() * raw).sum(-1), rtol=2e-3, atol=0)
    cut = Applied(states)(configured_pipeline([{"min_p": 0.01}]))
    whole = apply_to_logits(logits, [configured_pipeline([{"min_p": 0.01}])] * 6)
    assert cut.counts.sum(-1).numpy() == pytest.approx((whole > -torch.inf).sum(-1).numpy(), rel=0.03)


SMALL = {
    "LocalProbabilityTransform": {"hidden_dims": 8},
    "SimpleDistributionAwareTransform": {"hidden_dims": 8},
    "ConditionedSamplingNetwork": {"d_model": 4, "d_ff": 6, "n_blocks": 1, "n_heads": 2, "d_preference": 3},
}


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Of three architectures, one of which takes a preference, as files."""
    folder = tmp_path_factory.mktemp("portraits")
    paths = []
    for architecture, options in SMALL.items():
        saved = folder / architecture / "a0_b1_c0_top2"
        build_sampler(architecture, options, seed=1).save_pretrained(saved)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(portraying, "chains", lambda: FEW)
            rows = evaluated(str(saved), [0.0, 1.0])
            made = [portray(row, {"train": STATES, "test": OTHERS}, INTERVALS) for row in rows]
        paths.append(folder / f"{architecture}.json")
        write_json({"portraits": made}, paths[-1])
    return paths


def test_tables_hold_every_sampler(portraits, tmp_path):
    names = ["portraits_csv", "portraits_tex", "effects_csv", "closed_form_csv", "closed_form_txt", "statistics_csv"]
    paths = {name: tmp_path / name for name in names}
    made = read_portraits(portraits)
    write_portraits(made, **{name: str(path) for name, path in paths.items()})
    samplers = [f"{name} a0_b1_c0 top2" for name in list(SMALL)[:2]]
    samplers += [f"ConditionedSamplingNetwork a0_b1_c0 top2 preference {preference}" for preference in (0, 1)]
    tables = {name: pd.read_csv(paths[name]) for name in names if name.endswith("csv")}
    assert all(list(dict.fromkeys(table["name"])) == samplers for table in tables.values())
    assert tables["portraits_csv"].groupby("name")["closest"].sum().tolist() == [1] * 4
    effects_of = tables["effects_csv"].groupby(["of", "quantity"]).size()
    assert len(effects_of) == 8 and ("raw", "effective_temperature") not in effects_of
    shuffled = tables["statistics_csv"].query("method == 'permutation'").set_index("name")
    assert shuffled.at[samplers[0], "note"].startswith("not applicable, it reads no statistics: Sees each token's")
    assert shuffled.loc[samplers[1], "kl"].notna().all() and len(shuffled) == 6
    latex = paths["portraits_tex"].read_text()
    assert latex.count(r"a0\_b1\_c0 top2") == 4
    assert all(line.count("&") == 9 for line in latex.splitlines() if line.endswith(r"\\"))
    sections = paths["closed_form_txt"].read_text().split("\n\n")
    assert [section.splitlines()[0] for section in sections] == [f"# {name}" for name in samplers]
    for section, portrait in zip(sections, made, strict=True):
        assert section.endswith(portrait["snippet"] + "\n" * section.endswith("\n"))
        compile(section, "snippet", "exec")


def test_a_sampler_is_computed_in_double_precision_and_stays_as_it_was():
    sampler = Heated()
    made = STATES.under(sampler)
    assert effective_temperature(STATES, made).numpy() == pytest.approx(0.5, rel=1e-6)
    assert sampler.scale.dtype == torch.float32
