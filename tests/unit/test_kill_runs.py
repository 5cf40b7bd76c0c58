"""What chooses the kills of a run and compares it with an undisturbed one; the kills are in tests/integration."""

import random

import pandas as pd
import pytest

from kill_runs import Job, compare, files_of, leftovers, next_target, read_jobs, refuse_words_about_locks

LOG = """
[Wed Nov 25 21:38:09 2026]
Job 8: Fetching the model
Reason: Missing output files: results/smoke/models/smollm2-135m-instruct
[Wed Nov 25 21:38:10 2026]
Job 4: Collecting prompts from resources/prompts.jsonl
Reason: Missing output files: results/smoke/prompts.parquet
[Wed Nov 25 21:38:19 2026]
Finished jobid: 4 (Rule: collect_prompts)
1 of 44 steps (2%) done
[Wed Nov 25 21:38:10 2026]
Finished jobid: 8 (Rule: fetch_model)
[Wed Nov 25 21:38:20 2026]
Job 5: Expanding the grid of heuristics
"""


def test_jobs_of_a_log_have_rule_message_and_seconds_where_they_finished():
    assert read_jobs(LOG) == [
        Job("fetch_model", "Fetching the model", 1.0),
        Job("collect_prompts", "Collecting prompts from resources/prompts.jsonl", 9.0),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_kills_are_spread_over_all_rules(seed):
    """Each in another rule, in the order of the run, one out of every part of it."""
    rules, kills = 38, 20
    jobs = [Job(f"rule{place:02}", f"{place} {part}", 1.0) for place in range(rules) for part in range(2)]
    generator, aimed = random.Random(seed), []
    for number in range(kills):
        target = next_target(jobs, set(aimed), kills - number, generator)
        aimed.append(target.rule)
        # The jobs before it finish.
        jobs = jobs[jobs.index(target) :]
    assert aimed == sorted(set(aimed)) and len(aimed) == kills
    places = [int(rule[4:]) for rule in aimed]
    assert all(number <= place for number, place in enumerate(places))
    assert max(after - before for before, after in zip([-1, *places], [*places, rules], strict=False)) <= 4
    with pytest.raises(ValueError, match="more kills than rules"):
        next_target(jobs, {job.rule for job in jobs}, 1, generator)


def test_a_comparison_counts_what_is_lost_doubled_different_and_left_over(tmp_path):
    folders = [tmp_path / "undisturbed", tmp_path / "killed"]
    key = {"prompt_id": ["a", "b", "c"], "heuristic_id": "h", "seed": 0}
    table = pd.DataFrame({**key, "value": [0.5, float("nan"), 2.0]})
    for folder in folders:
        folder.mkdir()
        table.to_parquet(folder / "table.parquet")
        (folder / "rows.jsonl").write_text("1\n2\n3\n")
        (folder / "weights").write_text("0.5")
        # Dates and seconds are nobody's loss.
        (folder / "sampler" / "tensorboard").mkdir(parents=True)
        (folder / "sampler" / "tensorboard" / f"events.{folder.name}").write_text("now")
        (folder / "report.html").write_text(folder.name)
    result = compare(files_of(folders[0]), folders[1])
    assert not result and result.same == 3 and result.rows_compared == 6

    changed = folders[1]
    pd.concat([table[1:], table[2:]]).assign(value=1.0).to_parquet(changed / "table.parquet")
    (changed / "rows.jsonl").write_text("1\n2\n")
    (changed / "weights").write_text("0.25")
    (changed / "more.parquet.part").write_text("")
    (folders[0] / "figure.pdf").write_text("")
    result = compare(files_of(folders[0]), folders[1])
    assert result
    assert (result.rows_lost, result.rows_doubled) == (2, 1)
    assert result.different == ["rows.jsonl", "table.parquet", "weights"]
    assert (result.missing, result.left_over) == (["figure.pdf"], ["more.parquet.part"])


def test_what_is_unfinished_is_known_by_its_name(tmp_path):
    unfinished = [".a.7.parquet", ".w.7.old", "b.parquet.lock", "b.parquet.part", "c.safetensors.part.3"]
    for name in [*unfinished, "a.parquet", "part.json", ".gitattributes", ".snakemake_timestamp", "a.partial.md"]:
        (tmp_path / name).touch()
    assert leftovers(tmp_path) == unfinished


def test_words_about_locks_are_seen():
    refuse_words_about_locks("Provided cores: 2\nblocks and clocks")
    with pytest.raises(RuntimeError, match="words about locks"):
        refuse_words_about_locks("Error: Directory cannot be locked.")
    with pytest.raises(RuntimeError, match="words about locks"):
        refuse_words_about_locks("remove it with --unlock")
