"""Files that trainers read, written from the tables of pairs and answers."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from adaptive_samplers.files import atomic_output, write_json_rows
from adaptive_samplers.hashing import content_number
from adaptive_samplers.messages import written_out

Row = dict[str, Any]


def _assistant(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


def _origin(row: Row) -> Row:
    """What distinguishes a file's splits and the rows of different prompts; trainers ignore it."""
    return {"prompt_id": row["prompt_id"], "split": row["split"]}


def _plain(pairs: Path, _: Path) -> Iterator[Row]:
    return _rows("preference_pairs", pairs)


def _trl_preference(pairs: Path, _: Path) -> Iterator[Row]:
    for row in _rows("preference_pairs", pairs):
        yield {
            **_origin(row),
            "prompt": row["prompt"],
            "chosen": _assistant(row["chosen"]),
            "rejected": _assistant(row["rejected"]),
            "score_chosen": row["score_chosen"],
            "score_rejected": row["score_rejected"],
            "margin": row["margin"],
        }


def _trl_unpaired(_: Path, answers: Path) -> Iterator[Row]:
    for row in _labelled(answers):
        yield {
            **_origin(row),
            "prompt": row["prompt"],
            "completion": _assistant(row["text"]),
            "label": row["label"],
        }


def _simpo(pairs: Path, answers: Path) -> Iterator[Row]:
    usable = (row for row in _rows("preference_answers", answers) if row["reason"] is None)
    groups = groupby(usable, key=lambda row: row["prompt_id"])
    prompt_id, found = None, []
    for row in _rows("preference_pairs", pairs):
        while prompt_id != row["prompt_id"]:
            prompt_id, group = next(groups)
            found = [(answer["seed"], answer["text"], answer["score"]) for answer in group]
        met = [(text, score) for seed, text, score in found if row["seed"] in (None, seed)]
        yield {
            **_origin(row),
            "prompt": written_out(row["prompt"]),
            "all_generated_responses": [text for text, _ in met],
            "all_rm_scores": [score for _, score in met],
            "chosen": row["prompt"] + _assistant(row["chosen"]),
            "rejected": row["prompt"] + _assistant(row["rejected"]),
        }


def _halos_pairwise(pairs: Path, _: Path) -> Iterator[Row]:
    for row in _rows("preference_pairs", pairs):
        # The order must carry no information, and must not change from one export to the next.
        first_wins = content_number(["halos", row["prompt_id"], row["number"]]) % 2
        sides = ("chosen", "rejected") if first_wins else ("rejected", "chosen")
        yield {
            "prompt_id": row["prompt_id"],
            "prompt": row["prompt"],
            **{f"output_{name}": _assistant(row[side]) for name, side in zip("AB", sides, strict=True)},
            "label": first_wins,
            **{f"reward_{name}": row[f"score_{side}"] for name, side in zip("AB", sides, strict=True)},
            "reward_difference": abs(row["margin"]),
            "type": "pairwise_feedback",
            "split": trainer_split(row["split"]),
        }


def _halos_binary(_: Path, answers: Path) -> Iterator[Row]:
    for row in _labelled(answers):
        yield {
            "prompt_id": row["prompt_id"],
            "prompt": row["prompt"],
            "output": _assistant(row["text"]),
            "label": int(row["label"]),
            "reward": row["score"],
            "type": "binary_feedback",
            "split": trainer_split(row["split"]),
        }


def trainer_split(split: str) -> str:
    """What SimPO and HALOs call a split: they know two, and evaluate on what is not `train`."""
    return "train" if split == "train" else "test"


class Format(NamedTuple):
    """Its rows, from the tables of pairs and answers, and its readers.

    `is_list`: one JSON list, not JSON lines. `by_split`: its readers take the trainer's splits from two files.
    """

    rows: Callable[[Path, Path], Iterator[Row]]
    reader: str
    is_list: bool = False
    by_split: bool = False


FORMATS = {
    "pairs": Format(_plain, "anything that reads JSON lines"),
    "trl_preference": Format(_trl_preference, "TRL's DPOTrainer and RewardTrainer"),
    "trl_unpaired": Format(_trl_unpaired, "TRL's KTOTrainer"),
    "simpo": Format(_simpo, "SimPO's training script", by_split=True),
    "halos_pairwise": Format(_halos_pairwise, "HALOs, as feedback", is_list=True),
    "halos_binary": Format(_halos_binary, "HALOs, as feedback", is_list=True),
}


def file_name(name: str) -> str:
    """The file with all rows of a format: JSON lines, or one JSON list."""
    return f"{name}.{'json' if FORMATS[name].is_list else 'jsonl'}"


class FormatFile(NamedTuple):
    """What a file holds: the rows of a format, of one of a trainer's splits or, if None, of all."""

    format: str
    split: str | None


def exported_files(names: Sequence[str], splits: Sequence[str]) -> dict[str, FormatFile]:
    """The files in which prompts of `splits` are exported in these formats, by name."""
    files = {}
    for name in names:
        if FORMATS[name].by_split:
            parts = {trainer_split(split) for split in splits}
            files |= {f"{name}_{part}.jsonl": FormatFile(name, part) for part in sorted(parts, reverse=True)}
        else:
            files[file_name(name)] = FormatFile(name, None)
    return files


def write_format(
    name: str, pairs: Path | str, answers: Path | str, output: Path | str, split: str | None = None
) -> int:
    """Write one of `FORMATS` from the tables `preference_pairs` and `preference_answers`; how many rows it has.

    The tables must be in the order of prompts, as `make_preferences` writes them; they are read in parts. With a
    `split`, `train` or `test`, only the rows whose `trainer_split` it is are written.
    """
    chosen = FORMATS[name]
    rows = chosen.rows(Path(pairs), Path(answers))
    wanted = (row for row in rows if split is None or trainer_split(row["split"]) == split)
    with atomic_output(output) as temporary, open(temporary, "w", encoding="utf-8") as file:
        return write_json_rows(wanted, file, chosen.is_list)


def _labelled(answers: Path) -> Iterator[Row]:
    return (row for row in _rows("preference_answers", answers) if row["label"] is not None)


def _rows(name: str, path: Path) -> Iterator[Row]:
    from adaptive_samplers.tables import read_batches  # rules ask for file names where pyarrow may be missing

    for batch in read_batches(name, path):
        yield from batch.to_pylist()
