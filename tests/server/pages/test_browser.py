"""The pages in a real browser: Debian's Chromium, without a window."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from tests.client.running import running_service, tiny_text_bundle
from tests.waiting import wait_until

from bebr.cli.server.running import Service

KEY = "a-key"
NOTES = {
    "bread": {"title": "<img src=x onerror=alert(1)>", "year": 1999, "lang": "en"},
    "harbor": {"title": "The harbor freezes in January", "year": 2021, "lang": "en"},
    "auto": {"title": "Ein schnelles Auto", "year": 2024, "lang": "de", "text": "long " * 40},
}
OTHERS = (
    "return performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith(location.origin))"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium and driver, "install a browser: apt-get install chromium chromium-driver (Debian)"
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = Chrome(options=options, service=Driver(driver))
    found.set_page_load_timeout(120)
    yield found
    found.quit()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("pages")
    tiny_text_bundle(folder / "bundles", folder / "scratch")
    with running_service(folder / "data", bundles_dir=folder / "bundles", api_keys=(KEY,)) as service:
        with httpx.Client(base_url=f"{service.url}/v1/collections/", headers={"api-key": KEY}, timeout=120) as client:
            fields = {"year": "integer", "lang": "keyword"}
            assert client.put("notes", json={"bundle": "minilm@1", "filterable": fields}).is_success
            points = [{"id": id, "text": id, "metadata": metadata} for id, metadata in NOTES.items()]
            assert client.post("notes/points", json={"points": points}).json()["applied"] == len(NOTES)
            assert client.put("codes", json={"code": "24x2"}).is_success
        yield service


class Page:
    """What a person does with a page, and what is seen."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self._browser = browser
        browser.get("about:blank")
        browser.get(url)

    def find(self, selector: str) -> WebElement:
        return wait_until(lambda: next(iter(self.all(selector)), None), f"{selector} is there")

    def all(self, selector: str) -> list[WebElement]:
        return self._browser.find_elements(By.CSS_SELECTOR, selector)

    def type(self, selector: str, *keys: str) -> None:
        field = self.find(selector)
        field.clear()
        field.send_keys(*keys)

    def press(self, key: str) -> None:
        self._browser.switch_to.active_element.send_keys(key)

    def run(self, script: str) -> Any:
        return self._browser.execute_script(script)

    def wait_for(self, script: str) -> None:
        wait_until(lambda: self.run(f"return {script}"), script)

    def ids(self) -> list[str]:
        found: list[str] = self.run("return [...document.querySelectorAll('#hits .id')].map((e) => e.textContent)")
        return found

    def wait_for_status(self, part: str) -> None:
        self.wait_for(f"document.getElementById('status').textContent.includes({json.dumps(part)})")


@pytest.fixture
def page(browser: Chrome, service: Service) -> Iterator[Page]:
    """The search page, with the key typed in."""
    page = Page(browser, service.url)
    page.run("sessionStorage.clear()")
    page = Page(browser, service.url)
    page.wait_for_status("API key")
    page.type("#key", KEY, Keys.ENTER)
    page.wait_for("document.querySelectorAll('#collection option').length === 2")
    page.run("const c = document.getElementById('collection'); c.value = 'notes'; c.dispatchEvent(new Event('change'))")
    browser.get_log("browser")
    yield page
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert [message for message in said if "Failed to load resource" not in message] == [], (
        "a script or its rules failed"
    )
    assert page.run(OTHERS) == []


def test_a_search_shows_hits_and_more_like_one(page: Page) -> None:
    page.type("#text", "harbor", Keys.ENTER)
    page.wait_for_status("3 hits; the service took")
    assert page.ids()[0] == "harbor"
    assert float(page.find("#hits meter").get_attribute("value") or 0) > 0
    assert page.all("#hits img") == [], "metadata is text"
    assert "<img src=x onerror=alert(1)>" in page.find("#hits").text
    page.press(Keys.ARROW_DOWN)
    page.press(Keys.ENTER)
    page.wait_for_status("hits like harbor")
    page.run("history.back()")
    page.wait_for_status("3 hits; the service took")
    page.run("document.activeElement.blur()")
    page.press("/")
    assert page.run("return document.activeElement.id") == "text"


def test_a_filter_and_explain(page: Page) -> None:
    page.run("document.getElementById('filter-field').value = 'year'")
    page.run("document.getElementById('filter-operator').value = 'gte'")
    page.type("#filter-value", "2000")
    page.find("#explain").click()
    page.type("#text", "bread", Keys.ENTER)
    page.wait_for_status("2 hits")
    assert set(page.ids()) == {"harbor", "auto"}
    page.find("#explanation summary").click()
    assert json.loads(page.find("#explained").text)["scorer"] == "adc"


def test_an_error_is_shown_in_the_words_of_the_service(page: Page) -> None:
    page.run("document.getElementById('filter-field').value = 'year'")
    page.type("#filter-value", "soon")
    page.type("#text", "bread", Keys.ENTER)
    page.wait_for("document.getElementById('status').classList.contains('bad')")
    assert "year" in page.find("#status").text
    page.run("const c = document.getElementById('collection'); c.value = 'codes'; c.dispatchEvent(new Event('change'))")
    page.type("#text", "nobody", Keys.ENTER)
    page.wait_for_status("nobody")


def test_it_fits_a_phone_and_follows_the_colors_of_the_system(browser: Chrome, page: Page) -> None:
    page.type("#text", "auto", Keys.ENTER)
    page.wait_for_status("3 hits")
    colors = set()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colors.add(page.run("return getComputedStyle(document.body).backgroundColor"))
    assert len(colors) == 2
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        assert page.run("return document.documentElement.scrollWidth") <= 360
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_docs_find_and_try_operations(browser: Chrome, page: Page, service: Service) -> None:
    page = Page(browser, f"{service.url}/docs")
    page.type("#find", "points/count")
    page.wait_for("document.querySelectorAll('details.operation:not([hidden])').length === 1")
    page.find("details.operation:not([hidden]) summary").click()
    page.find("details.operation:not([hidden]) details summary").click()
    page.type("details.operation:not([hidden]) input[name=collection]", "notes")
    page.find("details.operation:not([hidden]) form.try button").click()
    page.wait_for("document.querySelector('details.operation:not([hidden]) output pre') !== null")
    output = page.find("details.operation:not([hidden]) output").text
    assert output.startswith("200 in ") and '"count": 1' in output, output
    page.run("document.querySelector('details.operation:not([hidden]) td.type a').click()")
    page.wait_for("document.querySelector('details.shape[open]') !== null")
