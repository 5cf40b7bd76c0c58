"""Checks of judges and of overlap."""

from pathlib import Path
from urllib.parse import urlsplit

from adaptive_samplers.config.checks.common import COMPARING_KINDS, QUALITY, TRAINED_KIND, at, check_exists, judges
from adaptive_samplers.config.judges import name_of_values
from adaptive_samplers.config.problems import KeyPath, Problems, dotted
from adaptive_samplers.config.words import join

# What a request to an endpoint holds by other keys, or what its reply could not be read with.
_OWN_REQUEST = {
    "model": "key `model`",
    "messages": "key `template`",
    "top_logprobs": "key `top_logprobs`",
    "logprobs": "key `top_logprobs`",
    "stream": "way in which replies are read",
    "n": "way in which replies are read",
}


def check_judge(config: dict, problems: Problems, base_folder: Path) -> None:
    names: dict[str, KeyPath] = {}
    for place in judges(config, problems):
        judge = at(config, place)
        if judge["kind"] in COMPARING_KINDS:
            _check_question(judge, place, problems)
        if judge["kind"] == "likelihood" and not any(judge["weights"].values()):
            allowed = f"allowed: at least one of {join(judge['weights'], 'or')} that is not 0"
            problems.add((*place, "weights"), f"all weights are 0; {allowed}")
        for key in judge.get("request", {}):
            if key in _OWN_REQUEST:
                message = f"follows from the {_OWN_REQUEST[key]}; allowed: what else a request may hold"
                problems.add((*place, "request", key), message)
        if judge["kind"] != TRAINED_KIND and name_of_values(judge) == TRAINED_KIND:
            problems.add((*place, "name"), f"'{TRAINED_KIND}' is the embedded judge's name; allowed: another one")
            continue
        first = names.setdefault(name_of_values(judge), place)
        if first != place:
            key = "name" if "name" in judge else "kind"
            message = f"'{name_of_values(judge)}' is the name of {dotted(first)} too; allowed: a name of its own"
            problems.add((*place, key), message)
    if problems.clean(*QUALITY) and len(names) == 1 and at(config, QUALITY)["combine"] != "first":
        message = "'mean' has no effect with one judge; allowed: first, or more judges in labels.quality.others"
        problems.add((*QUALITY, "combine"), message)


def _check_question(judge: dict, place: KeyPath, problems: Problems) -> None:
    if len(judge["labels"]) != 2:
        message = f"has {len(judge['labels'])} items; allowed: two, for the answer shown first and for the second"
        problems.add((*place, "labels"), message)
    needed = ["{prompt}", "{first_answer}", "{second_answer}"]
    if missing := [name for name in needed if name not in judge["template"]]:
        problems.add((*place, "template"), f"lacks {join(missing)}; allowed: text with {join(needed)}")


def check_overlap(config: dict, problems: Problems, base_folder: Path) -> None:
    place = ("labels", "overlap")
    if not problems.clean(*place) or not config["labels"]["overlap"]["enabled"]:
        return
    overlap = config["labels"]["overlap"]
    if overlap["kind"] == "local":
        if not overlap["corpus"]:
            problems.add(
                (*place, "corpus"),
                "is empty while labels.overlap.enabled is true; allowed: at least one file, or enabled: false",
            )
        return
    server = overlap["infinigram"]
    if server["index"] is None:
        problems.add(
            (*place, "infinigram", "index"),
            "is null while labels.overlap.kind is infinigram; allowed: the name of an index that the server has",
        )
    if server["tokenizer"] is not None:
        key = (*place, "infinigram", "tokenizer")
        check_exists(key, server["tokenizer"], base_folder, Path.is_dir, "folder", problems)
    if urlsplit(server["url"]).scheme not in ("http", "https"):
        problems.add((*place, "infinigram", "url"), f"'{server['url']}'; allowed: an address with http:// or https://")
