"""The paper: numbers come from tables, errors name their place, and the manifest knows what it was made of."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from adaptive_samplers.compare import read_results
from adaptive_samplers.compare.planned import compare_planned
from adaptive_samplers.errors import UserError
from adaptive_samplers.figures.looks import PAPER
from adaptive_samplers.figures.style import FONT_SIZE, WIDTH, drawn_as, new_figure, save, style, text_width
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.paper.__main__ import main as check
from adaptive_samplers.paper.declaration import TEXT, Drawing, Paper, Section, Table, outline, widths
from adaptive_samplers.paper.manifest import hashes, what_has_changed
from adaptive_samplers.paper.prose import macros_of, typed_numbers
from adaptive_samplers.paper.typeset import refuse_typed_numbers, typeset
from adaptive_samplers.paper.values import read_rows
from adaptive_samplers.paper.write import Sources, data_of, write_paper
from support import LIBRARY, REPOSITORY

MACROS = macros_of((TEXT / "macros.typ").read_text())
# What rules/paper.smk declares to tell no results.
NO_RESULTS = {"introduction", "method", "protocol"}


@pytest.mark.parametrize(
    "source",
    [
        "The min-p rule and top-k beat `top_p_0.9`, not one of the others.",
        "See @fig-1 and @holtzman2020, here. <tab-2>",
        '#num("comparison", row: (name: "top_p_0.9"), column: "mean", digits: 2) is better.',
        "fine // 3 times\n/* 4 /* 5 */ 6 */",
        "#set text(size: 9pt)\n#v(2pt) and #box(width: 40%)[words]",
        "Read https://example.org/2020/12 first.",
        '#drawing("tradeoff", caption: [The value is #num("a", column: "x", digits: 3).])',
        '#if rows("a").len() > 0 [good #num("a", digits: 1)] else [bad]',
        '#let first = best("a", "x", where: (seed: 0))\nIt is.',
        '#for x in values("a", "b") { [name #num("a", row: (x: x), digits: 1)] }',
        '#import "../macros.typ": *\n= Results',
        "a \\# b, a\\u{2009}b, $p < alpha$",
    ],
)
def test_what_no_one_typed(source):
    assert typed_numbers(source, MACROS) == []


@pytest.mark.parametrize(
    ("source", "numbers"),
    [
        ("It is 3 times better.", ["3"]),
        ("It is\nbetter by 0.5 and 10,000. ", ["0.5", "10,000"]),
        ("Here $x = 0.5$ holds.", ["0.5"]),
        ("It is Twice as good as two others.", ["Twice", "two"]),
        ('#drawing("tradeoff", caption: [Over 9 prompts.])', ["9"]),
        ("#if x [won 4] else [lost 5]", ["4", "5"]),
        ("#let gain = 0.5\n", ["0.5"]),
        ("#let gain = [6]", ["6"]),
        ("`0.53` and `SmolLM2-135M`", ["0.53"]),
        ('#("0.53")', ["0.53"]),
        ("#3 and #(1 + 2)", ["1", "2", "3"]),
        ('#text("3")', ["3"]),
        ("#written(3)", ["3"]),
        ("#emph[2] and #x[y[7]]", ["2", "7"]),
        ("\u00bd of them, x\u00b2", ["\u00bd", "\u00b2"]),
        ("#context [12]", ["12"]),
        ("SmolLM2-135M is used. <sec-1> 95 %", ["135", "2", "95"]),
        ('#num("a", digits: 1)[5]', ["5"]),
        ('a \\\n8 "9" #x("', ["8", "9"]),
        ("/ Term 4: of 5", ["4", "5"]),
    ],
)
def test_what_was_typed_by_hand(source, numbers):
    assert sorted(found.number for found in typed_numbers(source, MACROS)) == sorted(numbers)


def test_where_no_results_are_told_formulas_and_words_may_have_numbers():
    source = "Of two sums $sum_(i=1)^V$ one\nis 3."
    assert typed_numbers(source, MACROS, reports=False) == [(2, "3", "is 3.")]


def test_nothing_was_typed_into_the_paper():
    sections = {path.stem: path.stem not in NO_RESULTS for path in (TEXT / "sections").glob("*.typ")}
    assert len(sections) >= 7
    refuse_typed_numbers(TEXT, sections)
    declared = re.sub(r"\s", "", (REPOSITORY / "rules" / "paper.smk").read_text())
    for name, reports in sections.items():
        assert f'Section("{name}"' in declared
        assert reports or f'"{name}","{name.capitalize()}",reports=False' in declared


HEADER = '#import "../macros.typ": *\n'
MAIN = """#import "macros.typ": data
#for section in data.sections { include "sections/" + section + ".typ" }
#context [#metadata(counter(page).final().first())<pages>]
"""


class World:
    """A run with small tables, and a text with one section."""

    def __init__(self, folder):
        self.run, self.text = folder / "run", folder / "text"
        (self.text / "sections").mkdir(parents=True)
        shutil.copy(TEXT / "macros.typ", self.text)
        (self.text / "paper.typ").write_text(MAIN)
        self.table = self.run / "tables" / "comparison.csv"
        self.table.parent.mkdir(parents=True)
        rows = [
            ("min_p_0.1", "heuristic", "quality", 0.5, 0.25, 0.75),
            ("learned", "learned", "quality", -1.25, -1.5, -1.0),
            ("min_p_0.1", "heuristic", "self_bleu", 0.125, 0.1, 0.2),
            ("learned", "learned", "self_bleu", 0.0625, -0.1, 0.2),
            ("learned", "learned", "correctness", None, None, None),
        ]
        columns = ["name", "kind", "objective", "mean", "low", "high"]
        pd.DataFrame(rows, columns=columns).to_csv(self.table, index=False)
        write_json({"prompts": 12345, "seeds": [0, 1], "model": {"name": "small"}}, self.run / "run.json")
        self.figures = self.run / "paper" / "figures"
        self.pdf, self.manifest = self.run / "paper" / "paper.pdf", self.run / "paper" / "MANIFEST.json"
        with drawn_as(PAPER[2]["column"]), style():
            save(new_figure(height=1.0), self.figures / "ranking", ["pdf"])
        made_of = {"figures": ["ranking"], "files": hashes([self.table], self.run)}
        write_json(made_of, self.figures / "ranking.json")

    @property
    def sources(self):
        return Sources(
            outline={
                "tables": {name: {"inside": "", "columns": []} for name in ("comparison", "run")},
                "drawings": {"ranking": "column"},
                "sections": {"results": True},
                "left_out": [],
            },
            tables={"comparison": [self.table], "run": [self.run / "run.json"]},
            drawings=[self.figures / "ranking.pdf"],
            made_of=[self.figures / "ranking.json"],
            columns=2,
            text=self.text,
        )

    def write(self, section):
        (self.text / "sections" / "results.typ").write_text(HEADER + section)
        write_paper(self.sources, self.pdf, self.manifest)
        return read_json(self.manifest)

    def shown(self, section):
        return [number["shown"] for number in self.write(section)["numbers"]]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


QUALITY = '(name: "learned", objective: "quality")'


@pytest.mark.parametrize(
    ("macro", "shown"),
    [
        (f'num("comparison", row: {QUALITY}, column: "mean")', ["\u22121.25"]),
        (f'num("comparison", row: {QUALITY}, column: "mean", digits: 0)', ["\u22121"]),
        (f'num("comparison", row: {QUALITY}, column: "low", digits: 3, scale: -100, sign: true)', ["+150.000"]),
        (f'interval("comparison", row: {QUALITY})', ["\u22121.25", "\u22121.50", "\u22121.00"]),
        ('num("comparison", row: (objective: "correctness"), column: "mean")', ["n/a"]),
        ('interval("comparison", row: (objective: "correctness"))', ["n/a"]),
        ('fact("run", "prompts")', ["12\u2009345"]),
        ('fact("run", "seeds.count")', ["2"]),
        ('fact("run", "model.name")', ["small"]),
        ('count("comparison", where: (kind: "learned"))', ["3"]),
        ('count("comparison", where: (mean: above(0.1)))', ["2"]),
        ('count("comparison", where: (mean: below(0.1), objective: ("quality", "self_bleu")), of: "name")', ["1"]),
        ('listed("comparison", "name")', ["min_p_0.1, learned"]),
        ('count-decided("comparison")', ["1"]),
        ('count-decided("comparison", worse: true)', ["2"]),
        # More quality is better, and less self-BLEU.
        ('word("comparison", row: best("comparison", "mean", where: (objective: "quality")), column: "name")',
         ["min_p_0.1"]),
        ('word("comparison", row: best("comparison", "mean", where: (objective: "self_bleu")), column: "name")',
         ["learned"]),
        ('verdict("comparison", row: (name: "min_p_0.1", objective: "quality"))', ["better than"]),
        ('verdict("comparison", row: (name: "min_p_0.1", objective: "self_bleu"))', ["worse than"]),
        (f'verdict("comparison", row: {QUALITY})', ["worse than"]),
        ('verdict("comparison", row: (name: "learned", objective: "self_bleu"))', ["not distinguishable from"]),
        ('verdict("comparison", row: (objective: "correctness"))', ["not distinguishable from"]),
    ],
)  # fmt: skip
def test_macros_show_what_tables_hold(world, macro, shown):
    assert world.shown(f"It is #{macro}.") == shown


def test_nothing_is_the_best_of_no_values(world):
    macro = '#if best("comparison", "mean", where: (objective: "correctness")) == none [none]'
    assert world.shown(macro) == []


@pytest.mark.parametrize(
    ("macro", "message"),
    [
        ('num("comparsion", column: "mean")', "there is no table 'comparsion'; there are: comparison, run"),
        ('num("comparison", column: "median")',
         "has no column 'median'; it has: name, kind, objective, mean, low, high"),
        ('num("comparison", row: (nam: "x"), column: "mean")', "has no column 'nam'"),
        ('num("comparison", row: (name: "top_p"), column: "mean")',
         'has no row with name "top_p"; name is one of: min_p_0.1, learned'),
        ('num("comparison", row: (kind: "heuristic", objective: "correctness"), column: "mean")',
         'has no row with kind "heuristic", objective "correctness"'),
        ('num("comparison", row: (name: "learned"), column: "mean")', "has 3 rows with name \"learned\"; name more"),
        (f'num("comparison", row: {QUALITY}, column: "kind")', "'learned' in the column 'kind', which is no number"),
        ('fact("run", "promts")', 'has no row with key "promts"; key is one of: prompts, seeds.count'),
        ('drawing("rankin", caption: [x])', "there is no figure 'rankin'; there are: ranking"),
        ('drawing("ranking", caption: "x")', "a caption is written in brackets"),
        ("nonsense()", "unknown variable: nonsense"),
        ("num(", "unclosed delimiter"),
    ],
)  # fmt: skip
def test_errors_name_the_place_and_what_there_is(world, macro, message):
    world.pdf.parent.mkdir(exist_ok=True)
    world.pdf.write_bytes(b"the last one")
    with pytest.raises(UserError) as error:
        world.write(f"Fine.\n\nIt is #{macro}.")
    assert "report/paper/sections/results.typ:4: " in str(error.value)
    assert message in str(error.value)
    # Nothing looks complete.
    assert world.pdf.read_bytes() == b"the last one" and not world.manifest.exists()
    assert sorted(path.name for path in world.pdf.parent.iterdir()) == ["figures", "paper.pdf"]


def test_a_typed_number_is_refused_with_its_place(world):
    with pytest.raises(UserError, match=r"sections/results.typ:3: '3' in 'and 3 times worse'"):
        world.write("It is good\nand 3 times worse")


def test_the_manifest_says_what_all_is_made_of(world):
    number = f'#num("comparison", row: {QUALITY}, column: "mean")'
    columns = '(text-col("name", [Sampler]), interval-col([Mean]))'
    text = (
        f"{number} and {number} <a>\n"
        f'#table-of("comparison", {columns}, order: row => row.name, most: 2, caption: [Of #count("comparison")])\n'
        '#drawing("ranking", caption: [Ranked.]) <fig-ranking>\n#pagebreak()\n'
        f'{number} #fact("run", "prompts") @fig-ranking'
    )
    manifest = world.write(text)
    assert world.pdf.read_bytes().startswith(b"%PDF")
    assert manifest["paper"] == {"file": "paper.pdf", "sha256": file_sha256(world.pdf), "pages": 2, "columns": 2}
    sha256 = file_sha256(world.table)
    first, rows, prompts = sorted(manifest["numbers"], key=lambda number: number["column"] != "mean")
    assert first == {
        "kind": "number",
        "table": "comparison",
        "row": {"name": "learned", "objective": "quality"},
        "column": "mean",
        "value": -1.25,
        "shown": "\u22121.25",
        "pages": [1, 2],
        "made_of": {"tables/comparison.csv": sha256},
    }
    assert {rows["shown"], prompts["shown"]} == {"5", "12\u2009345"}
    assert {table["name"]: table["pages"] for table in manifest["tables"]} == {"comparison": [1], "run": []}
    (figure,) = manifest["figures"]
    assert figure["pages"] == [1] and figure["made_of"] == {"tables/comparison.csv": sha256}
    assert figure["file"] == {"paper/figures/ranking.pdf": file_sha256(world.figures / "ranking.pdf")}
    assert set(manifest["text"]) == {"paper.typ", "macros.typ", "sections/results.typ"}
    # The same paper has the same bytes.
    before = world.pdf.read_bytes()
    world.write(text)
    assert world.pdf.read_bytes() == before


def test_a_paper_knows_when_it_is_older_than_its_tables_and_its_text(world, capsys):
    world.write(f'It is #num("comparison", row: {QUALITY}, column: "mean").')
    arguments = [str(world.run), "--text", str(world.text)]
    assert what_has_changed(world.manifest, world.text) == []
    assert check(arguments) == 0 and "up to date" in capsys.readouterr().out
    table = pd.read_csv(world.table)
    table.loc[1, "mean"] = 9.0
    table.to_csv(world.table, index=False)
    (world.text / "sections" / "results.typ").write_text("Other words.")
    assert check(arguments) == 1
    told = capsys.readouterr().out
    assert "tables/comparison.csv is not what it was" in told
    assert "report/paper/sections/results.typ is not what it was" in told
    assert "the number \u22121.25 on page 1 is older than its table 'comparison'" in told
    world.manifest.unlink()
    assert check(arguments) == 2 and "MANIFEST.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("height", "told"), [(4.0, False), (6.0, False), (9.0, False), (20.0, True)])
def test_a_figure_that_is_too_tall_is_made_smaller_or_named(world, height, told):
    with drawn_as(PAPER[2]["column"]), style():
        save(new_figure(height=height), world.figures / "ranking", ["pdf"])
    manifest = world.write('#set page(width: 8in, height: 10in, margin: 1in)\n#drawing("ranking", caption: [Ranked.])')
    assert manifest["paper"]["pages"] == 1
    # Of a named figure, nothing is embedded.
    assert (b"/XObject" not in world.pdf.read_bytes()) == told


def test_a_figure_older_than_its_table_is_refused(world):
    with open(world.table, "a") as file:
        file.write("other,heuristic,quality,1,1,1\n")
    with pytest.raises(UserError, match=r"the figure 'ranking' is older than .*comparison.csv; delete"):
        world.write("Words.")


def test_a_table_written_meanwhile_is_refused(world, monkeypatch):
    def typeset_while_a_job_writes(*arguments):
        with open(world.table, "a") as file:
            file.write("other,heuristic,quality,1,1,1\n")
        return [], 4, []

    monkeypatch.setattr("adaptive_samplers.paper.write.typeset", typeset_while_a_job_writes)
    with pytest.raises(UserError, match="'comparison' was written while the paper was set"):
        world.write("Words.")


def test_tables_are_read_as_plain_rows(tmp_path):
    pd.DataFrame({"name": ["a", "b"], "value": [1, 2], "other": [None, 0.5]}).to_parquet(tmp_path / "t.parquet")
    assert read_rows([tmp_path / "t.parquet"], columns=["name", "other"]) == [
        {"name": "a", "other": None},
        {"name": "b", "other": 0.5},
    ]
    for name, metrics in {"One/x": {"kl": 0.5}, "Two/x": {"gain": 2}}.items():
        write_json(metrics, tmp_path / name / "metrics.json")
    assert read_rows([tmp_path / "One" / "x", tmp_path / "Two" / "x"], inside="metrics.json") == [
        {"folder": "One/x", "kl": 0.5, "gain": None},
        {"folder": "Two/x", "kl": None, "gain": 2},
    ]
    with pytest.raises(UserError, match=r"none.csv cannot be read"):
        read_rows([tmp_path / "none.csv"])
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad.json cannot be read"):
        read_rows([tmp_path / "bad.json"])


def test_what_a_config_does_not_make_is_left_out():
    parts = {
        "tables": [Table("comparison", "c.csv"), Table("pairs", "p.csv", made=False)],
        "drawings": [Drawing("ranking", "page"), Drawing("tries", "column", made=False)],
    }
    sections = [Section("results", "Results", ("comparison",)), Section("equal_tries", "Equal tries", ("pairs",))]
    paper = Paper(**parts, sections=sections)
    assert outline(paper) == {
        "tables": {"comparison": {"inside": "", "columns": []}},
        "drawings": {"ranking": "page"},
        "sections": {"results": True},
        "left_out": ["Equal tries"],
    }
    assert widths(paper, {"ranking": None, "tries": None}) == {"ranking": "page"}
    with pytest.raises(ValueError, match="section 'results' needs 'comparsion', which is not declared"):
        Paper(**parts, sections=[Section("results", "Results", ("comparsion",))])
    with pytest.raises(ValueError, match=r"lacks report/paper/sections/nowhere.typ"):
        Paper(**parts, sections=[Section("nowhere", "Nowhere")])
    with pytest.raises(ValueError, match="two tables or figures of the name 'pairs'"):
        Paper(**parts | {"drawings": [Drawing("pairs", "page")]}, sections=[])


def test_the_section_on_equal_tries_reads_what_the_comparison_writes(tmp_path):
    rng = np.random.default_rng(0)
    better = {"top_p": 0.0, "min_p": 0.05, "learned": 1.0}
    rows = [
        (family, f"{family} {number}", f"p{prompt}", seed, gain + 0.1 * rng.normal(), objective)
        for objective in ("quality", "correctness", "embedding_entropy")
        for family, gain in better.items()
        for number in range(2)
        for prompt in range(40)
        for seed in range(2)
    ]
    columns = ["family", "configuration", "prompt", "seed", "value", "objective"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "results.csv", index=False)
    plan = {"plan": "abc", "plans": 1, "read_before": False, "claims": ["learned"], "references": [], "tries": 2}
    plan["statistics"] = {"resamples": 300, "level": 0.05, "power": 0.8}
    found, summary = compare_planned(read_results(tmp_path / "results.csv"), plan, 0)
    found["pairs"].to_csv(tmp_path / "pairs.csv", index=False)
    found["fronts"].to_csv(tmp_path / "family_hypervolumes.csv", index=False)
    write_json(plan, tmp_path / "plan.json")
    write_json(summary, tmp_path / "summary.json")
    files = ("pairs.csv", "plan.json", "summary.json", "family_hypervolumes.csv")
    tables = {name: [tmp_path / name] for name in files}
    tables = {file.partition(".")[0]: paths for file, paths in tables.items()}
    sources = Sources(
        outline={
            "tables": {name: {"inside": "", "columns": []} for name in tables},
            "drawings": {},
            "sections": {"equal_tries": True},
            "left_out": [],
        },
        tables=tables,
        drawings=[],
        made_of=[],
        columns=2,
    )
    text = tmp_path / "text"
    shutil.copytree(TEXT, text)
    (text / "paper.typ").write_text(MAIN)
    recorded, pages, warnings = typeset(text, data_of(sources, tmp_path), [], tmp_path / "paper.pdf")
    shown = [record["shown"] for record in recorded if record["kind"] == "number"]
    assert shown.count("min_p, top_p") == 3 and "all learned is better" in shown and pages == 1 and not warnings
    # Of both pairs of an objective with diversity: how many learned families reach more.
    reach = [record for record in recorded if record.get("row", {}).get("difference_low")]
    assert [record["shown"] for record in reach] == ["1", "1"]


def test_figures_are_as_wide_as_the_paper_shows_them():
    text = "min_p_0.1"
    assert new_figure(height=1.0).get_figwidth() == WIDTH
    on_screen = text_width(new_figure(height=1.0), text)
    for looks in PAPER.values():
        assert looks["column"].width <= looks["page"].width
        for look in looks.values():
            with drawn_as(look):
                figure = new_figure(height=1.0)
                assert figure.get_figwidth() == look.width
                assert text_width(figure, text) == pytest.approx(on_screen * look.font_size / FONT_SIZE, rel=0.05)
    assert new_figure(height=1.0).get_figwidth() == WIDTH


@pytest.mark.parametrize("script", ["draw_for_paper", "write_paper"])
def test_the_paper_needs_no_torch(script):
    lines = (REPOSITORY / "scripts" / f"{script}.py").read_text().splitlines()
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    drawing = [f"import adaptive_samplers.figures.{path.stem}" for path in (LIBRARY / "figures").glob("[!_]*.py")]
    code = [
        f"import sys; sys.path.insert(0, {json.dumps(str(LIBRARY.parent))})",
        *imports,
        *(drawing if script == "draw_for_paper" else []),
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))",
    ]
    assert subprocess.run([sys.executable, "-c", "\n".join(code)], check=False).returncode == 0


def test_the_paper_needs_no_network():
    # Packages of Typst would be fetched.
    assert not [path for path in TEXT.rglob("*.typ") if "@preview" in path.read_text()]
