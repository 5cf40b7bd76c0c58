"""One clear line for each mistake that a user can make in a config."""

from pathlib import Path
from typing import Any

import pytest

from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.config.weights import rounds_by_objective, sampler_names
from adaptive_samplers.errors import UserError
from support import HUB, REMOVED, changed


def problems_of(config: Any, config_folder: Path) -> dict[str, str]:
    """The reported problems: message by dotted key."""
    with pytest.raises(UserError) as raised:
        load_config(config, config_folder)
    header, *lines = str(raised.value).splitlines()
    assert header == f"The config has {'a problem' if len(lines) == 1 else f'{len(lines)} problems'}:"
    return dict(line.removeprefix("  ").split(": ", 1) for line in lines)


LEARNED = "evaluation.learnability.heuristics"
JUDGE = "labels.quality.judge"
BUDGETS = "generation.adaptive"
PAIRWISE = {"kind": "pairwise", "name": "judge", "source": HUB}
SERVER = "labels.overlap.infinigram"
TRACED = {"enabled": True, "kind": "infinigram"}
SERVED_JUDGE = {"kind": "scalar", "name": "judge", "source": HUB, "sglang": {"arguments": ["--host 0.0.0.0"]}}
POLICIES = "policy_samples.policies"
DECONTAMINATION = "preferences.decontamination"
REPEATED = "evaluation.repeated_sampling"
ENDPOINT = {"kind": "endpoint", "name": "far", "base_url": "https://api.example.org/v1", "model": "m"}
OTHERS = "labels.quality.others"
SAMPLER = "samplers.SamplingNetwork"
PACKAGE = {"kind": "package", "package": "a-model", "version": "1.0", "sha256": "0" * 64, "path": "a_model"}
NO_WEIGHTS = {"answer": 0, "end": 0}
BAD_CONFIGS = [
    # What is changed, the new value, the key that is reported, and what the message says.
    (f"{REPEATED}.k", [], f"{REPEATED}.k", ["is empty", "at least one"]),
    (f"{REPEATED}.k", [0], f"{REPEATED}.k[0]", ["0", "at least 1"]),
    (f"{REPEATED}.confidence", 1.0, f"{REPEATED}.confidence", ["1 is out of range", "below 1"]),
    (f"{REPEATED}.criterion", "bta", f"{REPEATED}.criterion", ["'bta'", "Did you mean 'beta'?"]),
    (LEARNED, [[{"top_k": 5}], [{"top_k": 5}]], f"{LEARNED}[1]", ["already listed", f"{LEARNED}[0]"]),
    ("generation.sglang", {"arguments": ["--port=3"]}, "generation.sglang.arguments[0]", ["'--port' follows from"]),
    ("generation.vllm", {"arguments": ["-x", "--api_key=3"]}, "generation.vllm.arguments[1]", ["'--api_key' follows"]),
    (OTHERS, [ENDPOINT, ENDPOINT], f"{OTHERS}[1].name", ["'far' is the name of labels.quality.others[0] too"]),
    (OTHERS, [{"kind": "feature_reward"}], f"{OTHERS}[0].name", ["is the name of labels.quality.judge too"]),
    (OTHERS, [{"kind": "feature_reward", "features": []}], f"{OTHERS}[0].features", ["is empty", "at least one"]),
    (OTHERS, [{"kind": "feature_reward", "features": ["finish"]}], f"{OTHERS}[0].features[0]", ["mean 'finished'?"]),
    (OTHERS, [{"kind": "scaler"}], f"{OTHERS}[0].kind", ["'scaler'", "Did you mean 'scalar'?"]),
    (OTHERS, [{**PAIRWISE, "labels": ["A"]}], f"{OTHERS}[0].labels", ["has 1 items"]),
    (OTHERS, [{**PAIRWISE, "name": "all-minilm-l6-v2"}], f"{OTHERS}[0].name", ["another model"]),
    (OTHERS, [{**PAIRWISE, "name": "feature_reward"}], f"{OTHERS}[0].name", ["the embedded judge's name"]),
    (OTHERS, [SERVED_JUDGE], f"{OTHERS}[0].sglang.arguments[0]", ["'--host' follows from other keys"]),
    ("labels.quality.combine", "mean", "labels.quality.combine", ["no effect with one judge"]),
    ("labels.quality.combine", "median", "labels.quality.combine", ["first or mean"]),
    (JUDGE, {**PAIRWISE, "kind": "likelihood", "weights": NO_WEIGHTS}, f"{JUDGE}.weights", ["all weights are 0"]),
    (
        JUDGE,
        {**PAIRWISE, "kind": "likelihood", "weights": {"ends": 1}},
        f"{JUDGE}.weights.ends",
        ["Did you mean 'end'?"],
    ),
    (JUDGE, {**ENDPOINT, "template": "Which?"}, f"{JUDGE}.template", ["lacks {prompt}"]),
    (JUDGE, {**ENDPOINT, "base_url": "https://me:pw@host/v1"}, f"{JUDGE}.base_url", ["without a name or password"]),
    (JUDGE, {**ENDPOINT, "base_url": "api.openai.com"}, f"{JUDGE}.base_url", ["such as https://"]),
    (JUDGE, {**ENDPOINT, "api_key_variable": "sk-12"}, f"{JUDGE}.api_key_variable", ["environment variable"]),
    (JUDGE, {**ENDPOINT, "top_logprobs": 21}, f"{JUDGE}.top_logprobs", ["at most 20"]),
    (JUDGE, {**ENDPOINT, "request": {"stream": True}}, f"{JUDGE}.request.stream", ["way in which replies are read"]),
    (JUDGE, {**ENDPOINT, "request": ["a"]}, f"{JUDGE}.request", ["is a list", "a map"]),
    (JUDGE, SERVED_JUDGE, f"{JUDGE}.sglang.arguments[0]", ["'--host' follows from other keys"]),
    ("preferences.group", "prompts", "preferences.group", ["seed or prompt", "Did you mean 'prompt'?"]),
    ("preferences.heuristics", ["top_pp"], "preferences.heuristics[0]", ["neither", "Did you mean 'top_p'?"]),
    ("preferences.heuristics", ["temperature_0.3"], "preferences.group", ["one heuristic", "allowed: prompt"]),
    ("preferences.splits", ["train", "test"], "preferences.splits", ["holds test", "test_split: false"]),
    ("iteration.splits", ["test"], "iteration.splits", ["holds test", "test_split: false"]),
    (f"{DECONTAMINATION}.files", ["x.jsonl"], f"{DECONTAMINATION}.files[0]", ["does not exist"]),
    (f"{DECONTAMINATION}.files", ["a{b}.jsonl"], f"{DECONTAMINATION}.files[0]", ["wildcards to Snakemake"]),
    ("prompts.sources", [{"path": "{a}.jsonl"}], "prompts.sources[0].path", ["wildcards to Snakemake"]),
    ("prompts.unusable_ground_truths", "drop", "prompts.unusable_ground_truths", ["refuse or leave_out"]),
    ("preferences.formats", ["simp"], "preferences.formats[0]", ["Did you mean 'simpo'?"]),
    ("preferences.rejection.beta", 0, "preferences.rejection.beta", ["0 is out of range"]),
    (BUDGETS, {"enabled": True, "first_seeds": 3}, f"{BUDGETS}.first_seeds", ["none of the 3 seeds", "fewer than"]),
    (BUDGETS, {"enabled": True, "budget": 0.5}, f"{BUDGETS}.budget", ["0.5 of 3 seeds", "takes 2", "above 0.666667"]),
    (BUDGETS, {"budget": 1.2}, f"{BUDGETS}.budget", ["1.2 is out of range", "at most 1"]),
    (BUDGETS, {"weights": []}, f"{BUDGETS}.weights", ["is empty", "at least one"]),
    (BUDGETS, {"enabled": True, "weights": [{}]}, f"{BUDGETS}.weights[0]", ["all weights are 0"]),
    (
        BUDGETS,
        {"enabled": True, "first_seeds": 1},
        f"{BUDGETS}.weights[1].diversity",
        ["0.5 has no effect with one first seed", "at least two first_seeds"],
    ),
    (LEARNED, [[{"learned": "sampler"}]], f"{LEARNED}[0]", ["learned sampler", "allowed: heuristics"]),
    (POLICIES, [{"source": HUB}], f"{POLICIES}[0].name", ["is missing"]),
    (POLICIES, [{"name": "a"}, {"name": "a"}], f"{POLICIES}[1].name", ["name of another policy"]),
    (POLICIES, [{"name": "a", "source": "gpt2"}], f"{POLICIES}[0].source", ["is text", "hub or folder or null"]),
    (POLICIES, [{"name": "a", "adapter": {"kind": "hubb"}}], f"{POLICIES}[0].adapter.kind", ["Did you mean 'hub'?"]),
    (
        POLICIES,
        [{"name": "a", "adapter": {"kind": "folder", "path": "resource"}}],
        f"{POLICIES}[0].adapter.path",
        ["Did you mean 'resources'?"],
    ),
    (
        POLICIES,
        [{"name": "smollm2-135m-instruct", "source": HUB}],
        f"{POLICIES}[0].name",
        ["is the name of model too, but another model"],
    ),
    ("policy_samples.sampling", [{"topp": 1}], "policy_samples.sampling[0].topp", ["Did you mean 'top_p'?"]),
    ("policy_samples.sampling", [], "policy_samples.sampling", ["is empty"]),
    ("policy_samples.samples", 0, "policy_samples.samples", ["0 is out of range"]),
    ("iteration.policy", "mine", "iteration.policy", ["'mine' is not known", "allowed: null, the base model"]),
    ("iteration.samples", 1, "iteration.samples", ["1 is out of range"]),
    ("sampler_rounds", {"rounds": 2}, "sampler_rounds", ["unknown key", "It is 'sampler_generations' now"]),
    ("iteration.prompts_per_round", 9, "iteration.prompts_per_round", ["It is 'iteration.prompts_per_iteration' now"]),
    ("training.gamma", 1.0, "training.gamma", ["unknown key", "It is 'training.objectives' now"]),
    ("training.objective", {}, "training.objective", ["unknown key", "It is 'training.objectives' now"]),
    ("off_policy.grid", [{"family": "top_q", "values": [0.9]}], "off_policy.grid[0].family", ["'top_q' is not known"]),
    ("off_policy.pipelines", [[{"topp": 1}]], "off_policy.pipelines[0][0].topp", ["Did you mean 'top_p'?"]),
    ("off_policy.reward", {"quality": 0, "correctness": 0}, "off_policy.reward", ["at least one of quality or"]),
    ("on_policy.sampler", "SamplingNetwork/best", "on_policy.sampler", ["no sampler of this run", "allowed: "]),
    ("explain.samplers", ["SamplingNetwork/best"], "explain.samplers[0]", ["no sampler of this run", "allowed: "]),
    ("explain.chains", [[{"top_q": 0.9}]], "explain.chains[0][0].top_q", ["unknown processor", "top_p"]),
    ("explain.chains", [[{"top_p": 0.9}], [{"top_p": 0.9}]], "explain.chains[1]", ["already listed in explain.chains"]),
    ("explain.prompts", [], "explain.prompts", ["at least one item"]),
    ("explain.tokens", 0, "explain.tokens", ["out of range", "at least 1"]),
    ("on_policy.answers", 1, "on_policy.answers", ["1 is out of range", "at least 2"]),
    ("on_policy.clip", 1.0, "on_policy.clip", ["out of range", "below 1"]),
    ("evaluation.preferences", [0, 1.5], "evaluation.preferences[1]", ["1.5 is out of range", "at most 1"]),
    ("evaluation.preferences", [0, 0.0], "evaluation.preferences[1]", ["listed twice"]),
    ("training.objectives", [{"kind": "outcome", "front": "best"}], "training.objectives[0].front", ["'best_of'?"]),
    (
        "training.objectives",
        [{"kind": "outcome", "front": "best_of"}],
        "training.objectives[0].front",
        ["needs a best_of above 1", "allowed: diversity"],
    ),
    (
        "training.objectives",
        [{"kind": "outcome"}, {"kind": "pairs"}, {"kind": "outcome", "best_of": 4}],
        "training.objectives[2]",
        ["'outcome' is already listed in training.objectives[0]", "give one of them a name"],
    ),
    (
        "training.objectives",
        [{"kind": "outcome", "name": "top2"}],
        "training.objectives[0].name",
        ["'top2' is part of the names of other samplers"],
    ),
    ("sampler_generations.generations", 1, "sampler_generations.generations", ["1 is out of range", "at least 2"]),
    (
        "sampler_generations.samplers",
        ["SamplingNetwork/a0_b1_c0_top2", "SamplingNetwork/a0_b1_c0_top3"],
        "sampler_generations.samplers[1]",
        ["is no sampler of this run", "Did you mean 'SamplingNetwork/a0_b1_c0_top2'?"],
    ),
    ("iteration.files", ["resources/prompt.jsonl"], "iteration.files[0]", ["Did you mean 'prompts.jsonl'?"]),
    (
        "iteration.command",
        "train --data {data} --model $ITERATION_MODEL --out {ouput}",
        "iteration.command",
        ["lacks {output}", "a command with {data}, {model} and {output}"],
    ),
    ("trainin", {}, "trainin", ["unknown key", "Did you mean 'training'?"]),
    ("model", REMOVED, "model", ["is missing", "name, source"]),
    ("training", None, "training", ["is empty (null)", "a map", "learning_rate"]),
    # What no machine could follow.
    ("generation.shards", 10**9, "generation.shards", ["1000000000 is out of range", "at most 10000"]),
    ("labels.quality.shards", 10_001, "labels.quality.shards", ["at most 10000"]),
    ("training.replay_shards", 10**6, "training.replay_shards", ["at most 10000"]),
    ("policy_samples.shards", 10**6, "policy_samples.shards", ["at most 10000"]),
    ("policy_samples.samples", 10**9, "policy_samples.samples", ["at most 100000"]),
    ("generation.max_new_tokens", {"chat": 10**9}, "generation.max_new_tokens.chat", ["at most 1000000"]),
    ("generation.batch_size", 10**9, "generation.batch_size", ["at most 100000"]),
    ("training.batch_size", 10**9, "training.batch_size", ["at most 100000"]),
    ("training.sketch.tail", 10**7, "training.sketch.tail", ["at most 100000"]),
    ("training.steps", 10**12, "training.steps", ["at most 100000000"]),
    (f"{SAMPLER}.n_blocks", 10**7, f"{SAMPLER}.n_blocks", ["10000000 is out of range", "at most 64"]),
    (f"{SAMPLER}.d_model", -16, f"{SAMPLER}.d_model", ["-16 is out of range", "at least 2 and at most 4096"]),
    (f"{SAMPLER}.n_heads", 0, f"{SAMPLER}.n_heads", ["0 is out of range", "at least 1"]),
    (f"{SAMPLER}.d_ff", 10**6, f"{SAMPLER}.d_ff", ["at most 4096"]),
    ("evaluation.resamples", 10**9, "evaluation.resamples", ["at most 10000000"]),
    ("iteration.count", 10**9, "iteration.count", ["at most 10000"]),
    ("model.source", {**PACKAGE, "version": "../1.0"}, "model.source.version", ["'../1.0'", "a version such as"]),
    ("model.source", {**PACKAGE, "version": "1/2"}, "model.source.version", ["'1/2'", "a version such as"]),
    ("model.name", "m" * 101, "model.name", ["at most 100 letters"]),
    ("run.nmae", "x", "run.nmae", ["unknown key", "Did you mean 'name'?"]),
    ("run.learning_rate", 0.1, "run.learning_rate", ["unknown key", "'training.learning_rate' or 'on_policy"]),
    ("run.name", "a/b", "run.name", ["'a/b'", "letters, digits"]),
    ("run.name", "..", "run.name", ["'..'", "beginning with a letter or digit"]),
    ("run.name", "demo\n", "run.name", ["letters, digits"]),
    ("run.name", "x" * 300, "run.name", ["at most 100 letters"]),
    ("run.name", 2024, "run.name", ["2024 is a whole number", "put it in quotes"]),
    ("run.seed", -1, "run.seed", ["-1", "at least 0"]),
    ("model.source.kind", "hubb", "model.source.kind", ["'hubb'", "package, hub or folder", "Did you mean 'hub'?"]),
    ("model.source.kind", REMOVED, "model.source.kind", ["is missing", "package, hub or folder"]),
    ("model.source", "gpt2", "model.source", ["'gpt2' is text", "package, hub or folder"]),
    ("model.source.sha256", "abc", "model.source.sha256", ["'abc'", "64 hexadecimal digits"]),
    ("model.source.version", 0.1, "model.source.version", ["0.1 is a number", "put it in quotes"]),
    ("model.source.path", "../weights.gguf", "model.source.path", ["leaves the package"]),
    ("model.source.revison", "main", "model.source.revison", ["unknown key"]),
    ("model.source", {"kind": "hub"}, "model.source.repo", ["is missing", "owner/name"]),
    ("model.source", {**HUB, "revison": "x"}, "model.source.revison", ["Did you mean 'revision'?"]),
    ("model.source", {"kind": "hub", "repo": "a/b/c"}, "model.source.repo", ["'a/b/c'", "owner/name"]),
    ("model.source", {"kind": "folder", "path": "resource"}, "model.source.path", ["Did you mean 'resources'?"]),
    ("model.dtype", "float23", "model.dtype", ["float32, bfloat16 or float16", "Did you mean 'float32'?"]),
    ("model.device", "gpu", "model.device", ["'gpu'", "auto, cpu, mps, cuda"]),
    ("model.trust_remote_code", "no", "model.trust_remote_code", ["'no' is text", "true or false"]),
    ("labels.embedder.name", "smollm2-135m-instruct", "labels.embedder.name", ["another model"]),
    ("prompts.sources", [], "prompts.sources", ["is empty", "at least one"]),
    ("prompts.sources.0.path", "resources/prompt.jsonl", "prompts.sources[0].path", ["Did you mean 'prompts.jsonl'?"]),
    ("prompts.sources.0.path", "resources", "prompts.sources[0].path", ["is not a file"]),
    ("prompts.sources.0.prompt", "text", "prompts.sources[0].prompt", ["Did you mean 'prompt_key'?"]),
    ("prompts.sources.0.kind", "creativ", "prompts.sources[0].kind", ["Did you mean 'creative'?"]),
    ("prompts.sources.0.verifier", "numerical", "prompts.sources[0].verifier", ["Did you mean 'numeric'?"]),
    (
        "labels.correctness.verifiers",
        [{"name": "math", "path": "resources/prompts.jsonl"}],
        "labels.correctness.verifiers[0].name",
        ["name of another verifier"],
    ),
    (
        "labels.correctness.verifiers",
        [{"name": "mine", "path": "resources/prompt.jsonl"}],
        "labels.correctness.verifiers[0].path",
        ["Did you mean 'prompts.jsonl'?"],
    ),
    (
        "labels.correctness.verifiers",
        [{"name": "My own", "path": "x"}],
        "labels.correctness.verifiers[0].name",
        ["lower-case"],
    ),
    ("labels.correctness.code.seconds", 0, "labels.correctness.code.seconds", ["above 0"]),
    ("prompts.sources.0.limit", 0, "prompts.sources[0].limit", ["0 is out of range", "at least 1 or null"]),
    ("prompts.split.test", 0.4, "prompts.split", ["sum to 1.1", "sum to 1"]),
    ("prompts.split.test", 0, "prompts.split.test", ["0 is out of range", "above 0"]),
    ("prompts.split.dev", 0.1, "prompts.split.dev", ["unknown split", "train, validation and test"]),
    ("prompts.per_kind.test", 0, "prompts.per_kind.test", ["0 is out of range", "at least 1 or null"]),
    ("heuristics.grid.1.family", "topk", "heuristics.grid[1].family", ["'topk'", "Did you mean 'top_k'?"]),
    ("heuristics.grid.1.family", "top-p", "heuristics.grid[1].family", ["Did you mean 'top_p'?"]),
    ("heuristics.grid.1.values", REMOVED, "heuristics.grid[1].values", ["is missing", "'top_k'", "whole number"]),
    ("heuristics.grid.0.values", [0.5], "heuristics.grid[0].values", ["takes no values", "temperatures"]),
    ("heuristics.grid.1.values", [], "heuristics.grid[1].values", ["is empty", "at least one"]),
    ("heuristics.grid.0.temperatures", [1, 0], "heuristics.grid[0].temperatures[1]", ["0 is out of range", "above 0"]),
    ("heuristics.grid.1.values", [5, 0], "heuristics.grid[1].values[1]", ["whole number of at least 1"]),
    ("heuristics.grid.1.values", [2.5], "heuristics.grid[1].values[0]", ["2.5", "whole number of at least 1"]),
    ("heuristics.grid.2.values", [1.5], "heuristics.grid[2].values[0]", ["1.5 is out of range for top_p", "most 1"]),
    ("heuristics.grid.3.values", [-0.1], "heuristics.grid[3].values[0]", ["min_p", "at least 0 and at most 1"]),
    ("heuristics.grid.4.values", [1], "heuristics.grid[4].values[0]", ["typical", "above 0 and below 1"]),
    ("heuristics.grid.5.values", [0], "heuristics.grid[5].values[0]", ["epsilon", "above 0 and below 1"]),
    ("heuristics.grid.6.values", ["1e-2"], "heuristics.grid[6].values[0]", ["'1e-2' is text", "write 0.01"]),
    ("heuristics.grid.2.values", [float("nan")], "heuristics.grid[2].values[0]", ["not a finite number"]),
    ("heuristics.grid.2.values", [0.9, 0.9], "heuristics.grid[2]", ["top_p_0.9", "already listed in the same entry"]),
    ("heuristics.grid.2.value", [0.5], "heuristics.grid[2].value", ["Did you mean 'values'?"]),
    ("heuristics.pipelines", [[{"top_p": 0.9}]], "heuristics.pipelines[0]", ["already listed in heuristics.grid[2]"]),
    (
        "heuristics.pipelines.0.1",
        {"topp": 1},
        "heuristics.pipelines[0][1].topp",
        ["unknown processor", "Did you mean 'top_p'?"],
    ),
    (
        "heuristics.verbalized",
        [{"template": "{prompt}"}],
        "heuristics.verbalized[0].template",
        ["lacks {answers}", "{prompt} and {answers}"],
    ),
    (
        "heuristics.verbalized",
        [{"answers": 1}],
        "heuristics.verbalized[0].answers",
        ["1 is out of range", "of at least 2"],
    ),
    (
        "heuristics.verbalized",
        [{}, {"pipeline": [{"top_p": 2}]}],
        "heuristics.verbalized[1].pipeline[0].top_p",
        ["2 is out of range"],
    ),
    (
        "heuristics.verbalized",
        [{}, {"answers": 5.0, "pipeline": [{"temperature": 1}]}],
        "heuristics.verbalized[1]",
        ["verbalized_5+temperature_1 is already listed in heuristics.verbalized[0]"],
    ),
    ("heuristics.pipelines.0.0", {"top_k": 2.5}, "heuristics.pipelines[0][0].top_k", ["top_k's k", "a whole number"]),
    ("heuristics.pipelines.0.0", {"top_k": None}, "heuristics.pipelines[0][0].top_k", ["is empty", "a whole number"]),
    ("heuristics.pipelines.0.0", {3: 1}, "heuristics.pipelines[0][0].3", ["unknown processor"]),
    ("heuristics.pipelines.0.0", {3: 1, 4: 2}, "heuristics.pipelines[0][0]", ["has 2 keys (3 and 4)"]),
    (
        "heuristics.pipelines.0.0",
        {"learned": 5},
        "heuristics.pipelines[0][0].learned",
        ["5 is a whole number", "folder"],
    ),
    ("heuristics.pipelines.0.0", {"p_less": 1}, "heuristics.pipelines[0][0].p_less", ["takes no parameters", "null"]),
    ("heuristics.pipelines.0.0", {"mirostat": 3}, "heuristics.pipelines[0][0].mirostat", ["several", "tau", "eta"]),
    (
        "heuristics.pipelines.0.0",
        {"mirostat": {"tau": 3}},
        "heuristics.pipelines[0][0].mirostat.eta",
        ["is missing", "mirostat needs it", "a number above 0"],
    ),
    (
        "heuristics.pipelines.0.0",
        {"mirostat": {"tau": 3, "eta": 0.1, "mue": 1}},
        "heuristics.pipelines[0][0].mirostat.mue",
        ["unknown parameter of mirostat", "tau and eta"],
    ),
    (
        "heuristics.grid.1",
        {"family": "quadratic", "values": [{"smoothing_factor": 0.2, "curve": 5}]},
        "heuristics.grid[1].values[0].curve",
        ["5 is out of range for quadratic's curve", "at least 1 and at most 3"],
    ),
    (
        "heuristics.grid.1",
        {"family": "quadratic"},
        "heuristics.grid[1].values",
        ["'quadratic' needs", "smoothing_factor: a number above 0", "curve"],
    ),
    (
        "heuristics.grid.1",
        {"family": "p_less", "values": [1]},
        "heuristics.grid[1].values",
        ["'p_less' takes no values"],
    ),
    ("heuristics.grid.1.family", None, "heuristics.grid[1].family", ["is empty", "text"]),
    ("heuristics.grid.1.temperatures", ["x"], "heuristics.grid[1].temperatures[0]", ["'x' is text", "temperature"]),
    ("heuristics.pipelines.0.0", {"min_p": 2}, "heuristics.pipelines[0][0].min_p", ["2 is out of range for min_p"]),
    ("heuristics.pipelines.0.0", {"top_k": 5, "top_p": 1}, "heuristics.pipelines[0][0]", ["2 keys", "one processor"]),
    (
        "heuristics.pipelines.0.0",
        {"learned": {"path": "sampler"}},
        "heuristics.pipelines[0][0].learned.preference",
        ["is missing", "a map of path", "write the folder alone"],
    ),
    (
        "heuristics.pipelines.0.0",
        {"learned": {"path": "samplr", "preference": 1}},
        "heuristics.pipelines[0][0].learned.path",
        ["mean 'sampler'?"],
    ),
    (
        "heuristics.pipelines.0.0",
        {"learned": {"path": "sampler", "preference": 1.5}},
        "heuristics.pipelines[0][0].learned.preference",
        ["1.5 is out of range", "at least 0 and at most 1"],
    ),
    (
        "policy_samples.sampling",
        [{"learned": {"path": "sampler", "preference": 1, "prefer": 1}}],
        "policy_samples.sampling[0].learned.prefer",
        ["is not known", "Did you mean 'preference'?"],
    ),
    ("heuristics.pipelines.0.0", {"learned": "samplr"}, "heuristics.pipelines[0][0].learned", ["mean 'sampler'?"]),
    ("heuristics", {"grid": [{"family": "temperature"}]}, "heuristics", ["holds 1 in all", "at least 2"]),
    ("seeds", [0, 1, 0], "seeds[2]", ["0 is listed twice"]),
    ("seeds", [-1, 0], "seeds[0]", ["-1 is out of range", "at least 0"]),
    ("seeds", [0.5, 1], "seeds[0]", ["0.5 is not a whole number", "at least 0"]),
    ("seeds", 3, "seeds", ["3 is a whole number", "a list"]),
    ("seeds", [], "seeds", ["is empty", "at least one"]),
    ("seeds", [0], "scoring.weights[1].diversity", ["one seed", "at least two seeds"]),
    ("generation.engine", "transformer", "generation.engine", ["Did you mean 'transformers'?"]),
    ("generation.max_new_tokens", 0, "generation.max_new_tokens", ["0 is out of range", "at least 1"]),
    ("generation.max_new_tokens", "many", "generation.max_new_tokens", ["'many' is text", "or a map"]),
    ("generation.max_new_tokens", {"chat": 5}, "generation.max_new_tokens.factual", ["is missing", "at least 1"]),
    ("generation.stop", ["", "x"], "generation.stop[0]", ["is empty"]),
    ("generation.tolerance", 5, "generation.tolerance", ["5 is out of range", "at least 0 and at most 1"]),
    ("generation.batchsize", 5, "generation.batchsize", ["Did you mean 'batch_size'?"]),
    ("labels.quality.judge.kind", "reward", "labels.quality.judge.kind", ["Did you mean 'feature_reward'?"]),
    (
        "labels.quality.judge.pairs",
        "resources/judge_pair.jsonl",
        "labels.quality.judge.pairs",
        ["'judge_pairs.jsonl'?"],
    ),
    ("labels.quality.judge.regularization", 0, "labels.quality.judge.regularization", ["above 0"]),
    (JUDGE, {"kind": "scalar", "name": "judge"}, f"{JUDGE}.source", ["is missing", "package, hub or folder"]),
    (JUDGE, {**PAIRWISE, "kind": "scalar", "max_length": 0}, f"{JUDGE}.max_length", ["at least 1", "or null"]),
    (JUDGE, {**PAIRWISE, "template": "{prompt}: {first_answer}?"}, f"{JUDGE}.template", ["lacks {second_answer};"]),
    (JUDGE, {**PAIRWISE, "labels": ["A", "B", "C"]}, f"{JUDGE}.labels", ["has 3 items", "allowed: two"]),
    (JUDGE, {**PAIRWISE, "labels": ["A", "A"]}, f"{JUDGE}.labels[1]", ["listed twice"]),
    (JUDGE, {**PAIRWISE, "order": "bot"}, f"{JUDGE}.order", ["both or one", "Did you mean 'both'?"]),
    (JUDGE, {**PAIRWISE, "modell": "x"}, f"{JUDGE}.modell", ["unknown key", "template"]),
    (JUDGE, {**PAIRWISE, "name": "smollm2-135m-instruct"}, f"{JUDGE}.name", ["is the name of model too, but another"]),
    (JUDGE, {**PAIRWISE, "source": {"kind": "folder", "path": "x"}}, f"{JUDGE}.source.path", ["does not exist"]),
    ("labels.quality.tournament.schedule", "round-robin", "labels.quality.tournament.schedule", ["'round_robin'?"]),
    ("labels.overlap.enabled", True, "labels.overlap.corpus", ["is empty", "enabled: false"]),
    ("labels.overlap.corpus", ["data/corpora.txt"], "labels.overlap.corpus[0]", ["Did you mean 'corpus.txt'?"]),
    ("labels.overlap", TRACED, f"{SERVER}.index", ["is null", "name of an index"]),
    ("labels.overlap", TRACED | {"infinigram": {"index": "x", "url": "api.org"}}, f"{SERVER}.url", ["http://"]),
    ("labels.overlap", TRACED | {"infinigram": {"index": "x", "tokenizer": "no"}}, f"{SERVER}.tokenizer", ["'no'"]),
    ("labels.overlap.kind", "infini-gram", "labels.overlap.kind", ["Did you mean 'infinigram'?"]),
    ("scoring.weights.1", {"diversity": 0}, "scoring.weights[1]", ["all weights are 0"]),
    ("scoring.weights.1", {"quality": 1}, "scoring.weights[1]", ["a0_b1_c0 is already listed in scoring.weights[0]"]),
    ("scoring.weights.0.qualty", 1, "scoring.weights[0].qualty", ["unknown weight", "Did you mean 'quality'?"]),
    ("scoring.weights.0.quality", -1, "scoring.weights[0].quality", ["-1 is out of range", "at least 0"]),
    ("scoring.diversity_measure", "self-bleu", "scoring.diversity_measure", ["Did you mean 'self_bleu'?"]),
    ("scoring.weights", [], "scoring.weights", ["is empty", "at least one weighting", "pareto"]),
    ("scoring.grid", {"quality": [-1]}, "scoring.grid.quality[0]", ["-1 is out of range", "at least 0"]),
    ("scoring.grid", {"qualty": [1]}, "scoring.grid.qualty", ["Did you mean 'quality'?"]),
    (
        "scoring.grid",
        {"diversity": [*range(1, 12)], "quality": [*range(101, 112)]},
        "scoring.grid",
        ["makes 123 weightings", "each trains", "at most 100"],
    ),
    ("scoring.pareto", 1, "scoring.pareto", ["1 is a whole number", "true or false"]),
    ("scoring.normalization", {"method": "z-score"}, "scoring.normalization.method", ["Did you mean 'zscore'?"]),
    ("scoring.normalization", {"scope": "prompts"}, "scoring.normalization.scope", ["Did you mean 'prompt'?"]),
    ("scoring.top_k", [0], "scoring.top_k[0]", ["0 is out of range", "at least 1"]),
    ("scoring.top_k", [99], "scoring.top_k[0]", ["99 is more than", "at most 17"]),
    ("samplers", {}, "samplers", ["no architecture", "SamplingNetwork"]),
    ("samplers.SamplerNetwork", {}, "samplers.SamplerNetwork", ["architecture", "Did you mean 'SamplingNetwork'?"]),
    ("samplers.SamplingNetwork.n_heads", 5, "samplers.SamplingNetwork.d_model", ["32", "divisible", "n_heads, 5"]),
    ("training.learning_rate", "3e-3", "training.learning_rate", ["'3e-3' is text", "write 0.003"]),
    ("training.learning_rate", float("inf"), "training.learning_rate", ["not a finite number"]),
    ("training.warmup_steps", 401, "training.warmup_steps", ["401 is more than training.steps, 400"]),
    ("training.evaluate_every", 500, "training.evaluate_every", ["500 is more than training.steps, 400"]),
    ("training.sketch", 256, "training.sketch", ["256 is a whole number", "a map with the keys top and tail"]),
    ("training.batch_size", True, "training.batch_size", ["true is a truth value", "a whole number"]),
    ("evaluation.objectives", ["qualty"], "evaluation.objectives[0]", ["Did you mean 'quality'?"]),
    ("evaluation.confidence", 95, "evaluation.confidence", ["95 is out of range", "above 0 and below 1"]),
    ("evaluation.objectives", ["self_bleu", "embedding_entropy"], "evaluation.objectives", ["'quality'"]),
    ("evaluation.objectives", ["quality", "self_bleu"], "evaluation.objectives", ["'embedding_entropy'"]),
]


@pytest.mark.parametrize(("path", "value", "reported", "words"), BAD_CONFIGS)
def test_bad_config_is_one_clear_line(good_config, config_folder, path, value, reported, words):
    problems = problems_of(changed(good_config, (path, value)), config_folder)
    assert reported in problems
    for word in words:
        assert word in problems[reported]
    # What else is reported can only follow from the same mistake: the keys that a short map lacks.
    assert all("is missing" in message for key, message in problems.items() if key != reported)


def test_rounds_need_what_samplers_are_compared_with(good_config, config_folder):
    key = "training.objectives[1].rounds"
    objectives = [{"kind": "imitation"}, {"kind": "outcome", "rounds": True}]
    config = changed(good_config, ("training.objectives", objectives), ("sampler_generations.generations", 3))
    assert "sampler_generations.keep_earlier" in problems_of(config, config_folder)[key]
    config = changed(config, ("sampler_generations.keep_earlier", True))
    assert load_config(config, config_folder)
    [imitating, *_] = [name for name in sampler_names(typed_config(config)) if name.endswith("_top2")]
    alone = changed(config, ("sampler_generations.samplers", [imitating]))
    assert "sampler_generations.samplers" in problems_of(alone, config_folder)[key]
    # Not those of an objective whose name ends alike.
    objectives = [*objectives, {"kind": "outcome", "name": "late_outcome"}]
    typed = typed_config(load_config(changed(config, ("training.objectives", objectives)), config_folder))
    [names] = rounds_by_objective(typed).values()
    assert names and not any("late" in name for name in names)


def test_adaptive_budgets_take_one_judge_and_seeds_apart(good_config, config_folder):
    config = changed(good_config, (f"{BUDGETS}.enabled", True), ("seeds", [0, 1, 2, 3]))
    assert load_config(config, config_folder)
    both = changed(config, (OTHERS, [PAIRWISE]), ("labels.quality.tournament.group", "prompt"))
    problems = problems_of(both, config_folder)
    assert "one judge" in problems[OTHERS]
    assert "rates the seeds of two phases apart" in problems["labels.quality.tournament.group"]


def test_selecting_among_one_sample_is_refused(good_config, config_folder):
    config = changed(good_config, (f"{REPEATED}.enabled", True))
    assert load_config(config, config_folder)
    problems = problems_of(changed(config, ("seeds", [0])), config_folder)
    assert "nothing to select among; allowed: false, or at least two seeds" in problems[f"{REPEATED}.enabled"]


@pytest.mark.parametrize("raw", [None, [], "demo", 3])
def test_config_that_is_no_map(raw, config_folder):
    with pytest.raises(UserError, match="must be a map with the keys run, model"):
        load_config(raw, config_folder)


def test_all_problems_are_reported_together(good_config, config_folder):
    bad = changed(
        good_config,
        ("run.name", "a b"),
        ("training.stpes", 3),
        ("heuristics.grid.2.values", [1.5, 2]),
        ("heuristics.grid.3.family", "minp"),
        ("prompts.split.train", 0.9),
        ("labels.quality.judge.pairs", "nowhere.jsonl"),
        ("samplers.SamplingNetwork.n_heads", 7),
    )
    assert list(problems_of(bad, config_folder)) == [
        "heuristics.grid[2].values[0]",
        "heuristics.grid[2].values[1]",
        "heuristics.grid[3].family",
        "labels.quality.judge.pairs",
        "prompts.split",
        "run.name",
        "samplers.SamplingNetwork.d_model",
        "training.stpes",
    ]


@pytest.mark.parametrize("junk", [None, True, 3, 0.5, float("nan"), "text", [], [None], [[]], {}, {"x": 1}, {1: 2}])
def test_junk_in_any_place_is_a_user_error_or_valid(good_config, config_folder, junk):
    """Whatever stands in the place of a value, no other exception than UserError comes out."""

    def places(value: Any, path: str = "") -> list[str]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
        return [place for key, item in items for place in (f"{path}.{key}", *places(item, f"{path}.{key}"))]

    for place in places(good_config):
        try:
            load_config(changed(good_config, (place.removeprefix("."), junk)), config_folder)
        except UserError as error:
            assert "additionalProperties" not in str(error) and "is not valid under" not in str(error)


@pytest.mark.parametrize(("key", "value"), [("group", "prompt"), ("score", "reward")])
def test_a_judge_without_rewards_ranks_within_a_seed_alone(key, value, good_config, config_folder):
    config = changed(good_config, (JUDGE, PAIRWISE), (f"preferences.{key}", value))
    assert "gives no rewards" in problems_of(config, config_folder)[f"preferences.{key}"]


@pytest.mark.parametrize(("key", "value"), [("group", "prompt"), ("score", "reward")])
def test_a_mean_of_judges_ranks_as_one_without_rewards(key, value, good_config, config_folder):
    several = changed(good_config, (OTHERS, [ENDPOINT]), (f"preferences.{key}", value))
    load_config(several, config_folder)
    averaged = changed(several, ("labels.quality.combine", "mean"))
    assert "mean, which gives no rewards" in problems_of(averaged, config_folder)[f"preferences.{key}"]
    if key == "group":
        load_config(changed(averaged, ("labels.quality.tournament.group", "prompt")), config_folder)


def test_one_heuristic_is_enough_where_seeds_meet(good_config, config_folder):
    alone = {"grid": [], "pipelines": [[{"temperature": 0.8}, {"top_p": 0.95}]]}
    config = changed(good_config, ("heuristics", alone), ("scoring.top_k", [1]), ("preferences.group", "prompt"))
    assert "at least 2" in problems_of(config, config_folder)["heuristics"]
    met = changed(config, ("labels.quality.tournament.group", "prompt"))
    load_config(met, config_folder)
    load_config(changed(met, (JUDGE, PAIRWISE)), config_folder)
    assert "at least 2" in problems_of(changed(met, ("seeds", [0])), config_folder)["heuristics"]


def test_a_preference_is_for_samplers_that_take_one(good_config, config_folder):
    step = {"learned": {"path": "sampler", "preference": 1}}
    raw = changed(good_config, ("heuristics.pipelines", [[step]]))
    (config_folder / "sampler/config.json").write_text('{"architecture": "ConditionedSamplingNetwork"}')
    [[loaded]] = load_config(raw, config_folder)["heuristics"]["pipelines"]
    assert type(loaded["learned"]["preference"]) is float
    (config_folder / "sampler/config.json").write_text('{"architecture": "SamplingNetwork"}')
    [(key, message)] = problems_of(raw, config_folder).items()
    assert key == "heuristics.pipelines[0][0].learned.preference"
    assert "sampler holds a SamplingNetwork, which takes none; allowed: learned: sampler" in message
