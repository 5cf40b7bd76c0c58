"""The HTML report, in a real browser."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = [pytest.mark.pipeline, pytest.mark.browser]

ENTRIES = {
    "Comparison": ["Quality against diversity", "Ranking by quality", "Comparison table"],
    "Training": ["Raw, target and learned distributions", "Training curves", "Heuristics kept per weight"],
    "Checks": [
        "The judge: what is known of it",
        "Completeness of the candidates",
        "Selection: what was filtered, and why",
    ],
    "Labels": [
        "Distributions of the labels",
        "Correlations between labels",
        "Labels, judge, best and worst answers",
    ],
}


def by_text(text: str) -> tuple[str, str]:
    return By.XPATH, f"//*[normalize-space(text())='{text}']"


def test_the_report_shows_every_figure(workflow, browser):
    path = workflow.result("report.html")
    assert path.stat().st_size > 500_000
    browser.get(path.as_uri())
    wait = WebDriverWait(browser, 20)
    wait.until(lambda page: "Smoke test" in page.find_element(By.TAG_NAME, "body").text)
    for category, entries in ENTRIES.items():
        browser.get(path.as_uri())
        wait.until(lambda page, category=category: page.find_elements(*by_text(category)))[0].click()
        for entry in entries:
            wait.until(lambda page, entry=entry: page.find_elements(*by_text(entry)))
    # Open a figure: the image is in the page itself, decoded, and of the size of the file.
    browser.get(path.as_uri())
    wait.until(lambda page: page.find_elements(*by_text("Comparison")))[0].click()
    row = wait.until(lambda page: page.find_elements(*by_text("Quality against diversity")))[0]
    row.find_element(By.XPATH, "./ancestor::tr//a | ./ancestor::tr//button").click()
    image = wait.until(lambda page: [i for i in page.find_elements(By.TAG_NAME, "img") if i.size["width"] > 300])[0]
    assert image.get_attribute("src").startswith("data:image/png")
    assert browser.execute_script("return arguments[0].naturalWidth", image) > 1000
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, severe


def test_the_page_of_the_labels_is_inside_the_report(workflow, browser):
    browser.get(workflow.result("report.html").as_uri())
    wait = WebDriverWait(browser, 20)
    wait.until(lambda page: page.find_elements(*by_text("Labels")))[0].click()
    row = wait.until(lambda page: page.find_elements(*by_text("Labels, judge, best and worst answers")))[0]
    row.find_element(By.XPATH, "./ancestor::tr//a | ./ancestor::tr//button").click()
    browser.switch_to.frame(wait.until(lambda page: page.find_elements(By.TAG_NAME, "iframe"))[0])
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".example.best"))
    ends = [len(browser.find_elements(By.CSS_SELECTOR, f".example.{end}")) for end in ("best", "worst")]
    kinds = {"chat", "creative", "factual", "verifiable"} & {h.text for h in browser.find_elements(By.TAG_NAME, "h3")}
    assert ends[0] == ends[1] and len(kinds) <= ends[0] <= 3 * len(kinds)
    assert browser.execute_script("return [...document.images].map(image => image.naturalWidth > 1000)") == [True, True]
    folded = browser.find_elements(By.TAG_NAME, "details")[0]
    folded.find_element(By.TAG_NAME, "summary").click()
    assert folded.get_attribute("open") and folded.find_elements(By.TAG_NAME, "table")
