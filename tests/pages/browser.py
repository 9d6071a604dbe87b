"""A real browser in front of a manager, which fails a test for whatever it complains of."""

from contextlib import contextmanager

from playwright.sync_api import expect, sync_playwright

from tests.labkit import CHECKOUT

AXE = (CHECKOUT / "api/pages/node_modules/axe-core/axe.min.js").read_text()
PICTURES = CHECKOUT / ".state/pictures"
FORGIVEN = ("net::ERR", "Failed to fetch", "Failed to load resource", "htmx:sse:error", "certificate")
"""What a browser complains of where a test takes the manager away, asks for what is refused, or has made the
certificate itself; never a script's error or something that the content security policy blocked."""

expect.set_options(timeout=15_000)  # ms; a page is soon there, but on a busy machine not within the 5 s of Playwright


@contextmanager
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visitor(browser, url, token=None, **options):
    """Give a page, signed in if there is a token."""
    context = browser.new_context(base_url=url, ignore_https_errors=True, **options)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    try:
        if token:
            page.goto("/")
            page.get_by_label("Your token").fill(token)
            page.keyboard.press("Enter")
            expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        yield page
    finally:
        context.close()
    unforgiven = [one for one in complaints if not any(word in one for word in FORGIVEN)]
    assert unforgiven == [], unforgiven


def serious(page) -> list:
    """Return what axe-core finds to be serious or critical."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run()")["violations"]
    return [
        (one["id"], one["help"], [node["html"][:200] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def fits(page) -> bool:
    """Return whether nothing makes the page wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def picture(page, name: str) -> None:
    """Keep a picture of the page, from which `make pictures` takes those of the documentation."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def places(page, selector: str) -> dict:
    """Return where on the page each element is, by its text."""
    script = "all => all.map(e => { const r = e.getBoundingClientRect(); return [e.textContent, r.x, r.y, r.height]; })"
    return {text: rest for text, *rest in page.locator(selector).evaluate_all(script)}
