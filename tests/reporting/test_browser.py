"""The pages in a real Chromium: they draw what they should, offline, by mouse and by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scan_material import AFFINE, BRIGHT, DARK, PEAK, scan
from test_index_page import ROWS

from twinvae.reporting.index_page import write_index
from twinvae.reporting.scan_page import write_scan_page

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on the path: apt-get install chromium"
)
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
READY = "html[data-loaded]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """report.html of a made-up scan, index.html of three."""
    folder = tmp_path_factory.mktemp("pages")
    write_scan_page(scan(), folder / "report.html")
    write_index(folder, ROWS, "{}/report.html".format, "{}/thumbnail.png".format)
    return folder


def opened(browser: Any, path: Path, size: dict[str, int], **options: Any) -> Any:
    """The page, once it is drawn; whatever it complains of or fetches fails the test."""
    page = browser.new_page(viewport=size, **options)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text))
    page.on("request", lambda asked: wrong.append(asked.url) if "file:" in asked.url else None)
    page.goto(path.as_uri())
    if path.name == "report.html":
        page.wait_for_selector(READY, state="attached", timeout=30_000)
    assert wrong == [path.as_uri()]
    return page


@pytest.fixture
def report(browser: Any, pages: Path) -> Iterator[Any]:
    page = opened(browser, pages / "report.html", DESKTOP)
    yield page
    page.close()


def pixels(page: Any, plane: str) -> np.ndarray:
    """Grey values of a plane as it is drawn, (rows, columns)."""
    script = """(canvas) => [canvas.width, canvas.height, Array.from(
        canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)]"""
    width, height, values = page.locator(f"canvas[data-plane={plane}]").evaluate(script)
    return np.array(values).reshape(height, width, 4)[..., :3].astype(int)


def bare(page: Any) -> None:
    """Nothing laid over the scan."""
    page.select_option("#overlay", "")
    page.uncheck("#outlines")


def centre_of_bright(picture: np.ndarray) -> tuple[float, float]:
    """Where the bright place lies, as shares of the picture's height and width."""
    grey = (np.ptp(picture, axis=2) < 4) & (abs(picture[..., 0] - BRIGHT) < 12)
    rows, columns = np.nonzero(grey)
    assert len(rows) > 100
    return rows.mean() / picture.shape[0], columns.mean() / picture.shape[1]


def test_the_planes_lie_as_their_letters_say(report: Any) -> None:
    bare(report)
    assert BRIGHT > 3 * DARK
    x, y, z = ((p - c + 0.5) / n for p, c, n in zip(PEAK, (1, 1, 0), (22, 28, 20), strict=True))
    for right_is_left in (True, False):
        report.set_checked("#radiological", right_is_left)
        across = 1 - x if right_is_left else x
        expected = {"axial": (1 - y, across), "coronal": (1 - z, across), "sagittal": (1 - z, y)}
        for plane, where in expected.items():
            found = centre_of_bright(pixels(report, plane))
            assert found == pytest.approx(where, abs=0.03), plane


def test_overlays_and_outline_change_the_picture(report: Any) -> None:
    bare(report)
    plain = pixels(report, "axial")
    changed = {}
    for name in ("map", "residual", "healthy", "brain"):
        report.select_option("#overlay", name)
        changed[name] = pixels(report, "axial")
        assert (changed[name] != plain).any(), name
        report.locator("#opacity").fill("0")
        np.testing.assert_array_equal(pixels(report, "axial"), plain)
        report.locator("#opacity").fill("1")
    assert len({picture.tobytes() for picture in changed.values()}) == 4
    report.select_option("#overlay", "")
    report.check("#outlines")
    white = (pixels(report, "axial") > 250).all(axis=2) & ~(plain > 250).all(axis=2)
    assert white.sum() > 50


def readout(page: Any) -> str:
    return str(page.locator("#readout").text_content())


def said(voxel: tuple[int, int, int]) -> str:
    x, y, z = (AFFINE @ [*voxel, 1])[:3]
    return f"x {x:.1f}, y {y:.1f}, z {z:.1f} mm".replace("-", "\N{MINUS SIGN}")


def test_it_starts_at_the_highest_place_and_says_what_is_there(report: Any) -> None:
    text = readout(report)
    assert text.startswith(said(PEAK))
    for part in ("scan 200", "map behind the score 2.50 × threshold", "in the brain",
                 "healthy x_h 100", "residual x − x_h 0.30"):  # fmt: skip
        assert part in text, (part, text)
    assert report.locator("canvas[data-plane=axial] + label output").text_content() == str(PEAK[2])


def test_the_keyboard_moves_the_crosshair(report: Any) -> None:
    x, y, z = PEAK
    report.locator("canvas[data-plane=axial]").focus()
    report.keyboard.press("ArrowRight")  # the person's right is on the left
    report.keyboard.press("ArrowDown")
    report.keyboard.press("PageUp")
    assert readout(report).startswith(said((x - 1, y - 1, z + 1)))
    report.uncheck("#radiological")
    report.locator("canvas[data-plane=coronal]").focus()
    report.keyboard.press("ArrowRight")
    report.keyboard.press("Shift+ArrowDown")
    assert readout(report).startswith(said((x, y - 1, z + 1 - 10)))
    report.locator("canvas[data-plane=sagittal] + label input").focus()
    report.keyboard.press("ArrowRight")
    assert readout(report).startswith(said((x + 1, y - 1, z + 1 - 10)))


def test_links_lead_to_their_places(report: Any) -> None:
    axial = report.locator("canvas[data-plane=axial] + label output")
    curve = report.locator("#curve").bounding_box()
    assert curve is not None
    report.locator("#curve").click(position={"x": curve["width"] * 2 / 7, "y": 50})
    assert axial.text_content() == "7"  # slices 5 to 12
    report.locator("#curve").focus()
    report.keyboard.press("ArrowRight")
    assert axial.text_content() == "8"
    assert report.locator("#curve").get_attribute("aria-valuenow") == "8"
    report.locator(".places button").first.press("Enter")
    assert axial.text_content() == "5"
    report.locator("[data-go]").press("Enter")
    assert readout(report).startswith(said(PEAK))
    canvas = report.locator("canvas[data-plane=axial]")
    inside = canvas.bounding_box()
    assert inside is not None
    canvas.click(position={"x": 2, "y": inside["height"] - 2})
    assert readout(report).startswith(said((22, 1, PEAK[2])))  # the person's right, at the back


@pytest.mark.parametrize("name", ["report.html", "index.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_scrolling_sideways(
    browser: Any, pages: Path, name: str, scheme: str
) -> None:
    page = opened(browser, pages / name, PHONE, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.get_by_text("Research software. Not for clinical use.").first.is_visible()
    if name == "report.html":
        assert len({pixels(page, p).shape[1] for p in ("axial", "coronal", "sagittal")}) == 1
        assert int(page.evaluate("document.documentElement.dataset.firstPicture")) < 5000
    page.close()


def test_the_index_is_sorted_by_keyboard(browser: Any, pages: Path) -> None:
    page = opened(browser, pages / "index.html", DESKTOP)
    names = page.locator("tbody th")
    assert names.all_text_contents() == ["a b", "c<d", "e"]
    times = page.get_by_role("button", name="times the threshold")
    times.press("Enter")
    assert names.all_text_contents() == ["c<d", "a b", "e"]  # 0.333, 2, and none last
    times.press("Enter")
    assert names.all_text_contents() == ["a b", "c<d", "e"]
    heads = page.locator("thead th[aria-sort]")
    assert [heads.count(), heads.get_attribute("aria-sort")] == [1, "descending"]
    page.get_by_role("button", name="scan", exact=True).press("Space")
    page.get_by_role("button", name="scan", exact=True).press("Space")
    assert names.all_text_contents() == ["e", "c<d", "a b"]
    page.close()
