"""The target `explain` in the DAG, `make explain`, and their page in a real browser."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from adaptive_samplers.explain.__main__ import main as explain_command
from adaptive_samplers.explain.asking import conversation
from adaptive_samplers.explain.page import explanation_page
from adaptive_samplers.explain.steps import Asked, explain
from adaptive_samplers.explain.text import visible_token
from adaptive_samplers.explain.ways import Mixture, Way, chain_way, sampler_ways
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.tables import read_table
from support import REPOSITORY, SMOKE

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=http://localhost:1/x onerror=alert(1)> \u202eabc \u05e9\u05dc"
TOP_P = configured_pipeline([{"top_p": 0.9}, {"temperature": 0.7}])


def data_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r"id='data'>(.*?)</script>", text, re.DOTALL)[1])


@pytest.fixture(scope="module")
def page(tiny_model, tmp_path_factory) -> Path:
    """A page with all there is to show, and with a name, a prompt and tokens that try to be more than texts."""
    folder = tmp_path_factory.mktemp("explained")
    sampler = folder / "SamplingNetwork" / "a0_b1_c0_top2"
    build_sampler("SamplingNetwork", {"d_model": 8, "d_ff": 8, "n_blocks": 1, "n_heads": 2}, 1).save_pretrained(sampler)
    learned = sampler_ways(str(sampler), [])
    hostile = Way(HOSTILE, "chain", configured_pipeline([{"min_p": 0.1}]))
    mixture = Mixture("a0_b1_c0_top2", {TOP_P: 0.5, hostile.pipeline: 0.5})
    ways = [chain_way(TOP_P), hostile, *learned]
    explanation = explain(tiny_model, Asked(conversation(HOSTILE), ways, [], learned[0], mixture, tokens=16))
    explanation_page(explanation, HOSTILE, folder / "page.html")
    return folder / "page.html"


def opened(browser, page: Path) -> list[str]:
    """Open a page; the addresses that it asked for."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.get(page.as_uri())
    return browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")


def shown(browser) -> dict:
    """What the panel shows, read from what is drawn rather than from the data."""
    return browser.execute_script(
        """
        const panel = document.querySelector('.panel');
        const rows = [...panel.querySelectorAll('tbody tr')];
        return {
          title: panel.querySelector('h3').textContent,
          tokens: rows.map(row => row.querySelector('th').textContent),
          texts: rows.map(row => [...row.querySelectorAll('td')].map(cell => cell.textContent)),
          bars: rows.map(row => [...row.querySelectorAll('td')].map(cell => {
            const bar = cell.querySelector('.bar');
            return bar ? bar.getBoundingClientRect().width / bar.parentElement.getBoundingClientRect().width : 0;
          })),
          drawn: rows.map(row => [...row.querySelectorAll('td')].map(cell => cell.classList.contains('drawn'))),
          parts: [...panel.querySelectorAll('.scale')].map(scale => {
            const box = scale.getBoundingClientRect(), part = scale.querySelector('.part.drawn'),
              needle = scale.querySelector('.needle');
            const at = one => (one - box.left - 1) / (box.width - 2);
            const inside = part.getBoundingClientRect(), mark = needle.getBoundingClientRect();
            return [at(inside.left), at(inside.right), at((mark.left + mark.right) / 2)];
          }),
        };
        """
    )


def test_the_page_works_without_a_network_or_an_error(browser, page):
    assert opened(browser, page) == []
    assert not browser.find_elements(By.TAG_NAME, "img")
    step = data_of(page)["steps"][0]
    browser.find_elements(By.CLASS_NAME, "token")[0].click()
    assert step["token"] in shown(browser)["title"]
    assert visible_token(HOSTILE) in browser.find_element(By.CLASS_NAME, "legend").text
    assert browser.get_log("browser") == []


def test_keys_move_from_token_to_token(browser, page):
    opened(browser, page)
    count = len(data_of(page)["steps"])
    chips = browser.find_elements(By.CLASS_NAME, "token")
    assert len(chips) == count

    def press(key):
        browser.switch_to.active_element.send_keys(key)
        (selected,) = browser.find_elements(By.CSS_SELECTOR, ".token[aria-selected=true]")
        assert selected == browser.switch_to.active_element and selected.get_attribute("tabindex") == "0"
        return chips.index(selected)

    chips[0].click()
    keys = [Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_LEFT, Keys.END, Keys.ARROW_RIGHT, Keys.HOME, Keys.ARROW_UP]
    assert [press(key) for key in keys] == [1, 2, 1, count - 1, count - 1, 0, 0]
    # One chip alone is reached by the tab key.
    assert len(browser.find_elements(By.CSS_SELECTOR, ".token[tabindex='0']")) == 1
    assert browser.find_element(By.CSS_SELECTOR, "[role=listbox]").get_attribute("aria-label")


def test_bars_and_strips_are_the_data(browser, page):
    opened(browser, page)
    data = data_of(page)
    assert data["target"] == 1 and len(data["ways"]) == 5
    for place, step in enumerate(data["steps"]):
        browser.find_elements(By.CLASS_NAME, "token")[place].click()
        found = shown(browser)
        assert found["tokens"] == [*(text for _, text in step["shown"]), "all others"]
        scale = max(p for seen in step["seen"] for p in (*seen["p"], seen["rest"]))
        for number, seen in enumerate(step["seen"]):
            for row, p in enumerate([*seen["p"], seen["rest"]]):
                assert found["bars"][row][number] == pytest.approx(p / scale, abs=0.03)
                text = found["texts"][row][number].rstrip("*")
                if p >= 0.00005:
                    assert float(text) == pytest.approx(p, abs=0.00006)
            drawn = [column[number] for column in found["drawn"]]
            ids = [token for token, _ in step["shown"]]
            assert drawn.count(True) == 1
            assert drawn.index(True) == (ids.index(seen["drawn"][0]) if seen["drawn"][0] in ids else len(ids))
            low, high, needle = found["parts"][number]
            assert low == pytest.approx(seen["span"][0], abs=0.01) and high == pytest.approx(seen["span"][1], abs=0.01)
            assert needle == pytest.approx(step["uniform"], abs=0.01) and low - 0.01 <= needle <= high + 0.01


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("columns", [360, 1200])
def test_the_page_is_readable_in_any_light_and_width(browser, page, scheme, columns):
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    size = {"width": columns, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened(browser, page)
    draws = [len(step["draws"]) for step in data_of(page)["steps"]]
    browser.find_elements(By.CLASS_NAME, "token")[draws.index(max(draws))].click()
    # Nothing but what scrolls by itself is wider than the window.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= columns
    ratios = browser.execute_script(
        """
        const channels = color => {
          const context = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
          context.fillStyle = color;
          context.fillRect(0, 0, 1, 1);
          return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map(
            one => (one /= 255) <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
        };
        const light = color => channels(color).reduce((sum, one, i) => sum + [0.2126, 0.7152, 0.0722][i] * one, 0);
        const page = light(getComputedStyle(document.body).backgroundColor);
        return ['h1', 'p', '.note', '.panel td', '.panel tfoot th', '.differs code', '.legend li'].map(one => {
          const found = document.querySelector(one);
          const ink = light(getComputedStyle(found).color);
          return (Math.max(ink, page) + 0.05) / (Math.min(ink, page) + 0.05);
        });
        """
    )
    assert min(ratios) > 4.5, ratios


@pytest.mark.pipeline
def test_the_target(workflow, browser):
    assert "explain_prompt" not in workflow.planned("--forceall")
    assert workflow.planned("explain") in ({"explain_prompt": 1, "explain": 1}, {})
    done = workflow.run("explain")
    assert done.returncode == 0, done.stdout
    path = workflow.result("explain/1.html")
    assert path.stat().st_size < 500_000 and opened(browser, path) == []
    data, text = data_of(path), workflow.result("explain/1.txt").read_text()
    kinds = [way["kind"] for way in data["ways"]]
    assert kinds == ["raw", "target", "chain", "sampler", "sampler", "sampler"] and data["target"] == 1
    assert data["followed"] == 3 and data["ways"][3]["name"] in text
    # Another prompt is explained beside the first; the first again if something it depends on changes.
    prompts = [*SMOKE["explain"]["prompts"], "Why is the sky blue?"]
    assert workflow.planned("explain", config={"explain": {"prompts": prompts}}) == {"explain_prompt": 1, "explain": 1}
    for change in ({"explain": {"seed": 1}}, {"explain": {"chains": []}}, {"explain": {"samplers": []}}):
        assert workflow.planned("explain", config=change) == {"explain_prompt": 1, "explain": 1}
    assert workflow.planned("all", config={"explain": {"seed": 1}}) == {}
    browser.find_elements(By.CLASS_NAME, "token")[-1].click()
    assert browser.get_log("browser") == []


@pytest.mark.pipeline
@pytest.mark.parametrize("kind", ["chain", "sampler"])
def test_what_is_explained_is_what_the_run_drew(workflow, kind, monkeypatch, tmp_path):
    monkeypatch.chdir(workflow.folder)
    prompts = read_table("prompts", workflow.result("prompts.parquet")).set_index("prompt_id")
    heuristics = read_table("heuristics", workflow.result("evaluation/heuristics.parquet"))
    wanted = heuristics["family"] == ("learned" if kind == "sampler" else "min_p")
    heuristic = heuristics[wanted].iloc[-1]
    drawn = read_table("candidates", workflow.result("evaluation/candidates.parquet"))
    drawn = drawn[drawn["heuristic_id"] == heuristic["heuristic_id"]]
    (step,) = json.loads(heuristic["processors"])
    chosen = ["--sampler", step["params"]["path"]] if kind == "sampler" else ["--chain", "min_p: 0.1"]
    for row in drawn.groupby("seed").head(2).itertuples():
        (message,) = json.loads(prompts.loc[row.prompt_id, "messages"])
        output = tmp_path / "page.html"
        tokens = SMOKE["generation"]["max_new_tokens"]
        asked = ["--prompt", message["content"], "--seed", str(row.seed), "--tokens", str(tokens)]
        explain_command([*asked, "--config", str(workflow.base), *chosen, "--output", str(output)])
        data = data_of(output)
        ids = [step["id"] for step in data["steps"]]
        assert ids[: len(row.token_ids)] == list(row.token_ids) and data["finish"] == row.finish_reason


@pytest.mark.pipeline
def test_make_explain(workflow):
    prompt = 'What costs $5, "quoted" and `x`?'
    # The Makefile is for the top of the repository.
    (workflow.folder / "scripts").symlink_to(REPOSITORY / "scripts")
    config = workflow.folder / "explained.yaml"
    config.write_text(yaml.safe_dump(SMOKE))
    make = ["make", "--silent", "--file", str(REPOSITORY / "Makefile"), "--old-file=environment", "explain"]
    variables = [f"PROMPT={prompt}", f"CONFIG={config}", "OPTIONS=--tokens 3 --output made/page.html"]
    variables.append(f"RUN={Path(sys.executable).parent}")
    environment = {**os.environ, "COLUMNS": "90"}
    done = subprocess.run(
        [*make, *variables], cwd=workflow.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert prompt in done.stdout and max(map(len, done.stdout.splitlines())) <= 90
    assert len(data_of(workflow.folder / "made" / "page.html")["steps"]) == 3
