"""The report as people see it: opened from disk in headless Chromium."""

import base64
import io
import json
import os
import shutil
import time

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from outcrop.report import write_report

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        message = "Chromium and chromedriver are needed to look at the report; neither may be missing in CI."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)  # A stranger's machine may have no browser; in CI this is a failure.
    options = Options()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def report(results, data, tmp_path_factory):
    return write_report(results, data, tmp_path_factory.mktemp("report") / "r.html", title="Two networks")


def _open(browser, path, width=1400, height=900, *, fresh=False):
    if not fresh and browser.current_url == path.as_uri() and browser.execute_script("return innerWidth") == width:
        return
    # The window of a headless browser has a least width; the emulated device has none.
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())
    _wait(browser, "return document.documentElement.dataset.ready === 'yes'")
    # Every view has painted once bokeh says that it is idle.
    _wait(browser, "return outcrop.drawn.every((entry) => entry.document.is_idle)")


def _wait(browser, script, *arguments, seconds=60):
    end = time.monotonic() + seconds
    while not (value := browser.execute_script(script, *arguments)):
        assert time.monotonic() < end, f"Waited {seconds} s for: {script}; {browser.get_log('browser')}"
        time.sleep(0.1)
    return value


def _frame(browser, role, index=0):
    """Return where the frame of a plot lies in the window: left, top, width, height."""
    return browser.execute_script(
        """
        const [role, index] = arguments;
        const all = outcrop.drawn.flatMap((entry) => entry.plots);
        const {plot, element} = all.filter(({plot}) => plot.tags.some((tag) => tag.role === role))[index];
        element.scrollIntoView({block: "center", behavior: "instant"});
        const box = element.getBoundingClientRect();
        const frame = Bokeh.index.find_one(plot).frame.bbox;
        return [box.left + frame.left, box.top + frame.top, frame.width, frame.height];
        """,
        role,
        index,
    )


def _screenshot(browser, left, top, width, height):
    shot = browser.get_screenshot_as_png()
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    return np.asarray(image.crop((round(left), round(top), round(left + width), round(top + height)))).astype(int)


def _tooltip(browser, x, y):
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x - 2, "y": y})
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
    return _wait(
        browser,
        """
        const texts = [];
        const walk = (node) => {
          for (const child of node.querySelectorAll("*")) {
            if (child.shadowRoot === null) continue;
            if (child.classList.contains("bk-Tooltip") && child.checkVisibility()) {
              texts.push([...child.shadowRoot.querySelectorAll("*")].filter((part) => part.children.length === 0)
                .filter((part) => part.tagName !== "STYLE").map((part) => part.textContent).join(" "));
            }
            walk(child.shadowRoot);
          }
        };
        walk(document);
        return texts.join(" | ");
        """,
    )


def test_the_report_opens_from_disk_without_errors_or_requests(browser, report):
    _open(browser, report, fresh=True)
    logged = [entry for entry in browser.get_log("browser") if entry["level"] in {"WARNING", "SEVERE"}]
    assert logged == []
    sent = [
        message["params"]["request"]["url"]
        for message in (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert report.as_uri() in sent
    assert [url[:60] for url in sent if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_verdict_is_on_the_page(browser, report):
    _open(browser, report)
    text = browser.execute_script("return document.body.innerText")
    assert "A block of 7 of 15 block outputs, stage2.0.relu2 to stage3.1.relu2" in text
    assert "No block among 7 block outputs" in text


@pytest.mark.parametrize("role", ["main", "side", "grid"])
def test_maps_are_square_and_painted(browser, report, role):
    _open(browser, report)
    left, top, width, height = _frame(browser, role)
    assert width == height > 150
    pixels = _screenshot(browser, left, top, width, height)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_a_map_shows_the_colours_of_its_values(browser, report, two_models):
    from bokeh.palettes import Magma256

    _open(browser, report)
    left, top, width, height = _frame(browser, "main")
    pixels = _screenshot(browser, left, top, width, height)
    similarity = two_models["pairwise"]["similarity"].values[:51, :51]
    side = width / 51
    for row, column in ((10, 10), (40, 5), (5, 40), (25, 30), (50, 0)):
        expected = Magma256[min(255, int(256 * max(similarity[row, column], 0)))]
        shown = pixels[int((row + 0.5) * side), int((column + 0.5) * side)]
        np.testing.assert_allclose(shown, [int(expected[i : i + 2], 16) for i in (1, 3, 5)], atol=4)


def test_the_strip_lies_exactly_below_its_map(browser, report):
    _open(browser, report)
    for index in (0, 1):
        left, _, width, _ = _frame(browser, "main", index)
        assert _frame(browser, "strip", index)[::2] == [left, width]


@pytest.mark.parametrize("role", ["main", "grid"])
def test_pointing_at_a_cell_names_both_layers_and_its_values(browser, report, two_models, role):
    _open(browser, report)
    left, top, width, height = _frame(browser, role)
    pairs = two_models["pairwise"]
    row, column = 12, 20
    cells = 51 if role == "main" else 51 * 2
    tooltip = _tooltip(browser, left + (column + 0.5) * width / cells, top + (row + 0.5) * height / cells)
    names = pairs["name_a"].values
    assert f"{names[row]}  (" in tooltip
    assert f"{names[column]}  (" in tooltip
    assert (
        f"{pairs['similarity'].values[row, column]:.3f} ± {pairs['standard_error'].values[row, column]:.3f}" in tooltip
    )
    assert f"{pairs['pc_alignment'].values[row, column]:.3f}" in tooltip
    if role == "grid":
        assert "resnet14-patches-seed0  " in tooltip


def test_a_cell_between_two_models_names_both(browser, report, two_models):
    _open(browser, report)
    left, top, width, height = _frame(browser, "grid")
    tooltip = _tooltip(browser, left + width * (0.5 + 50.5 / 109 / 2), top + height * 10.5 / 51 / 2)
    names = two_models["pairwise"]["name_a"].values
    assert f"resnet14-patches-seed0  {names[10]}" in tooltip
    assert f"resnet32-patches-seed0  {names[51 + 50]}" in tooltip
    assert f"{two_models['pairwise']['similarity'].values[10, 51 + 50]:.3f}" in tooltip


def test_the_block_is_outlined_where_it_was_found(browser, report, two_models):
    _open(browser, report)
    left, top, width, height = _frame(browser, "main", 1)
    pixels = _screenshot(browser, left, top, width, height)
    teal = np.abs(pixels - [0x38, 0xE0, 0xC8]).max(-1) < 40
    rows, columns = np.flatnonzero(teal.sum(1) > 40), np.flatnonzero(teal.sum(0) > 40)
    first, last = two_models["blocks"]["first_depth"].item(), two_models["blocks"]["last_depth"].item()
    expected = [first * width / 109, (last + 1) * width / 109]
    np.testing.assert_allclose([rows.min(), rows.max()], expected, atol=4)
    np.testing.assert_allclose([columns.min(), columns.max()], expected, atol=4)
    assert not (np.abs(_screenshot(browser, *_frame(browser, "main", 0)) - [0x38, 0xE0, 0xC8]).max(-1) < 40).any()


def test_ticks_name_layers_where_there_is_room_and_modules_where_there_is_none(browser, report):
    _open(browser, report)
    labels = """
        const all = outcrop.drawn.flatMap((entry) => entry.plots).map(({plot}) => plot);
        return all.filter((plot) => plot.tags.some((tag) => tag.role === "main"))
          .map((plot) => [...plot.left[0].major_label_overrides.values()]);
    """
    few, many = browser.execute_script(labels)
    assert len(few) == 51
    assert "stage1.0.conv1" in few
    assert {"stage1", "stage2", "stage3"} <= set(many)
    assert len(many) < 10
    zoomed = browser.execute_script(
        """
        const plot = outcrop.drawn[1].plots[0].plot;
        plot.x_range.setv({start: 19.5, end: 39.5});
        plot.y_range.setv({start: 39.5, end: 19.5});
        const shown = [...plot.left[0].major_label_overrides.values()];
        plot.x_range.setv({start: -0.5, end: 108.5});
        plot.y_range.setv({start: 108.5, end: -0.5});
        return shown;
        """
    )
    assert len(zoomed) == 20


@pytest.mark.parametrize("width", [1400, 400])
def test_nothing_is_wider_than_the_window(browser, report, width):
    _open(browser, report, width, 900)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    rights = "return [...document.querySelectorAll('.canvas')].map((plot) => plot.getBoundingClientRect().right)"
    assert max(browser.execute_script(rights)) <= width
    side = _frame(browser, "main")[2]
    assert side > 0.5 * width * (1 if width < 500 else 0.7)


def test_narrowing_the_window_refits_the_maps(browser, report):
    _open(browser, report, 1400, 900)
    metrics = {"width": 700, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    _wait(browser, "return document.documentElement.scrollWidth <= 700")
    _, _, width, height = _frame(browser, "main")
    assert width == height < 640


def test_axis_labels_follow_the_light_of_the_page(browser, report):
    colours = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        _open(browser, report)
        colours.append(
            browser.execute_script(
                "return [outcrop.drawn[0].plots[0].plot.left[0].major_label_text_color,"
                "getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
            )
        )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for ink, paper, text in colours:
        assert _contrast(_channels(ink), _channels(paper)) > 4.5
        assert _contrast(_channels(text), _channels(paper)) > 7
    assert colours[0] != colours[1]


def test_an_older_run_draws_its_maps_when_it_is_unfolded(browser, tmp_path, make_run, make_results, data):
    runs = [("blocks", f"r{i}", make_run([("m", 30, None)], seed=i), f"2026-03-0{i + 1}T12:30:00") for i in range(2)]
    _open(browser, write_report(make_results(runs), data, tmp_path / "r.html", title="t"))
    before = browser.execute_script("return outcrop.drawn.length")
    browser.execute_script("document.querySelector('details.older summary').click()")
    _wait(browser, "return outcrop.drawn.length > arguments[0]", before)
    _wait(browser, "return outcrop.drawn.every(({plots}) => plots.every(({element}) => element.clientWidth > 100))")


def test_names_that_look_like_markup_or_tex_are_only_text(browser, tmp_path, make_run, make_results, make_data):
    evil = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'>$$x$$"
    run = make_run([(evil, 12, (2, 10)), ("b", 12, None)], names=lambda n: [(f"{i}{evil}", "block") for i in range(n)])
    tree = make_results([("blocks", "r1", run, "2026-03-04T12:30:00")])
    path = write_report(tree, make_data(12, classes=(evil, "b")), tmp_path / "r.html", title=evil)
    _open(browser, path)
    left, top, width, height = _frame(browser, "main")
    assert f"2{evil}  (block)" in _tooltip(browser, left + 2.5 * width / 12, top + 2.5 * height / 12)
    assert browser.execute_script("return window.hacked") is None
    assert [entry for entry in browser.get_log("browser") if entry["level"] in {"WARNING", "SEVERE"}] == []


def test_the_page_prints(browser, report):
    _open(browser, report)
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert printed.startswith(b"%PDF")
    assert len(printed) > 50_000


def _channels(colour):
    if colour.startswith("#"):
        return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return [int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]


def _contrast(first, second):
    """Return the contrast ratio of two colours (WCAG 2.2)."""

    def luminance(colour):
        linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_training_is_shown_as_strips_over_steps_and_maps_at_a_few(
    browser, data, make_results, make_trajectory, tmp_path
):
    trajectory = make_trajectory(range(0, 2001, 50))
    results = make_results([("tracking", "77aa01", {"trajectory": trajectory}, "2026-03-04T12:30:00")])
    _open(browser, write_report(results, data, tmp_path / "t.html", title="A training"))
    assert [entry for entry in browser.get_log("browser") if entry["level"] in {"WARNING", "SEVERE"}] == []
    for width in (1400, 390):
        _open(browser, tmp_path / "t.html", width=width, fresh=True)
        strip, first, last = _frame(browser, "lines"), _frame(browser, "side", 0), _frame(browser, "side", 5)
        assert strip[2] > 0.45 * width
        assert first[2] == first[3] == last[2]
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    _open(browser, tmp_path / "t.html", fresh=True)
    left, top, across, down = _frame(browser, "lines")
    picture = _screenshot(browser, left, top, across, down).sum(2)
    # The block, of a high share, lights up in its layers and in the second half of the steps only.
    inside = picture[int(0.4 * down) : int(0.7 * down)]
    assert inside[:, int(0.8 * across) :].mean() > 2 * inside[:, : int(0.2 * across)].mean()
    assert inside[:, int(0.8 * across) :].mean() > 2 * picture[int(0.9 * down) :, int(0.8 * across) :].mean()
    text = _tooltip(browser, left + 0.752 * across, top + 10.5 / 30 * down)
    shown = float(trajectory["pc_share"].sel(step=1500).values[10])
    assert str(trajectory["name"].values[10]) in text
    assert "1500" in text
    assert f"{shown:.3f}" in text
    left, top, across, down = _frame(browser, "side", 5)
    text = _tooltip(browser, left + 14.5 / 30 * across, top + 10.5 / 30 * down)
    assert f"{float(trajectory['similarity'].values[-1, 10, 14]):.3f}" in text


def test_a_checkpoint_series_is_shown_in_two_rows_of_maps(browser, data, make_results, make_series, tmp_path):
    series = make_series([0, 1, 10, 100, 1000, 5000, 9000, 20000], layers=24)
    results = make_results([("checkpoints", "4be2", {"trajectory": series}, "2026-03-04T12:30:00")])
    page = write_report(results, data, tmp_path / "c.html", title="Checkpoints")
    for width in (390, 1400):
        _open(browser, page, width=width, fresh=True)
        assert [entry for entry in browser.get_log("browser") if entry["level"] in {"WARNING", "SEVERE"}] == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    left, top, across, down = _frame(browser, "series")
    side = across / 6
    assert down == pytest.approx(2 * side, abs=1)
    assert side > 140
    chosen = [0, 1, 3, 4, 6, 7]
    for column, below in ((0, 0), (2, 1), (5, 0), (3, 1)):
        # Row 20 and column 3 of a map; below, the row is a layer of the last step.
        place = [left + (column + 0.025 + 0.95 * 3.5 / 24) * side, top + (below + 0.025 + 0.95 * 20.5 / 24) * side]
        text = _tooltip(browser, *place)
        step = chosen[column]
        value = series["similarity_to_last"].values[step, 3, 20] if below else series["similarity"].values[step, 20, 3]
        names = series["name"].values
        assert f"{value:.3f} ± {0.008 if below else 0.004:.3f}" in text
        assert f"step {series['step'].values[step]:,}  {names[3]}" in text
        assert f"{'step 20,000' if below else 'same step'}  {names[20]}" in text


@pytest.mark.parametrize("width", [1400, 400])
def test_projections_are_painted_and_pictures_shown_at_any_width(browser, data, make_results, tmp_path, width):
    values = np.random.default_rng(0).standard_normal((3, 120))
    values[1, :6] += 60
    values -= values.mean(axis=1, keepdims=True)
    layers = {"model": ["net"] * 3, "name": ["a", "b", "c"], "layer_kind": ["block"] * 3, "depth": [0, 1, 2]}
    dataset = xr.Dataset(
        {"projection": (("layer", "sample"), values)},
        {**{name: ("layer", column) for name, column in layers.items()}, "sample": np.arange(120)},
        {"kind": "projections", "kind_version": "1.0"},
    )
    results = make_results([("components", "c1", {"projections": dataset}, "2026-03-04T12:30:00")])
    _open(browser, write_report(results, data, tmp_path / "p.html", title="Components"), width=width, fresh=True)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in {"WARNING", "SEVERE"}] == []
    pixels = _screenshot(browser, *_frame(browser, "lines"))
    middle = pixels[len(pixels) // 2]
    assert len(np.unique(middle.reshape(-1, 3), axis=0)) > 5
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    shown = "return [...document.querySelectorAll('figure .stratum img')].filter((image) => image.naturalWidth).length"
    assert browser.execute_script(shown) == 36


@pytest.mark.parametrize("width", [1300, 480])
def test_probes_are_drawn_in_their_colours_at_any_width(browser, data, make_probes, make_results, tmp_path, width):
    results = make_results([("probes", "p1", make_probes(("net", "other"), steps=5), "2026-03-04T12:30:00")])
    _open(browser, write_report(results, data, tmp_path / "p.html", title="Probes"), width=width, fresh=True)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in {"WARNING", "SEVERE"}] == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    shown = "return [...document.querySelectorAll('td.picture img')].every((image) => image.naturalWidth > 0)"
    assert browser.execute_script(shown)
    # Of each model: dots, the surface, and two plots of lines.
    left, top, across, down = _frame(browser, "lines", 1)
    assert across / down == pytest.approx(3 / (2 * 1.09 + 0.02), rel=0.12)
    pixels = _screenshot(browser, left, top, across, down)
    # The cell of the favourite, blue, is the first of the lowest row of the fifth square; yellow is opposite to it.
    side, unit = across / 3, down / 2.2
    x, y = 0.03 + 0.94 / 10, 1.09 - 0.03 - 0.94 / 10
    blue = pixels[round(unit * (1.09 + y)), round(side * (1 + x))]
    assert np.abs(blue - [0, 0, 255]).max() < 30
    yellow = pixels[round(unit * (0.09 + 0.03 + 0.94 / 10)), round(side * (1 - x))]
    assert np.abs(yellow - [255, 255, 0]).max() < 30
    # The frame of a cell is bright where the response is large, dark where it is small.
    frame = 0.94 / 5 * 0.36 * side
    corner = 0.94 / 5 * 0.43  # of the cell, outside the ring
    assert pixels[round(unit * (1.09 + y + corner)), round(side * (1 + x + corner))].sum() > 500
    assert pixels[round(unit * (0.09 + 0.03 + 0.94 / 10)), round(side * (1 - x) - frame)].sum() < 60
    text = _tooltip(browser, left + side * (1 + x), top + unit * (1.09 + y))
    assert "0.00 0.00 1.00" in text
    assert "2.500" in text


@pytest.fixture(scope="module")
def dominant_report(make_dominant, make_results, data, tmp_path_factory):
    leaves = make_dominant(("resnet110-patches-seed0", "resnet110-patches-seed1"), layers=30)
    results = make_results([("dominant", "d1", leaves, "2026-03-04T12:30:00")])
    return write_report(results, data, tmp_path_factory.mktemp("dominant") / "d.html", title="Dominant")


@pytest.mark.parametrize("width", [1300, 480])
def test_figures_of_dominant_samples_fit_and_do_not_overlap(browser, dominant_report, width):
    _open(browser, dominant_report, width=width, fresh=True)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in {"WARNING", "SEVERE"}] == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    boxes = browser.execute_script(
        """
        return [...document.querySelectorAll("figure .plot, figure .key, figcaption, .stratum, figure .scroll")]
          .map((one) => one.getBoundingClientRect()).filter((box) => box.height)
          .map((box) => [box.left, box.top, box.right, box.bottom]);
        """
    )
    corners = np.array(boxes)
    assert len(corners) > 50
    apart = (corners[:, None, 2:] <= corners[None, :, :2] + 0.5).any(axis=2)
    assert (apart | apart.T | np.eye(len(corners), dtype=bool)).all()
    pixels = _screenshot(browser, *_frame(browser, "titled", 1))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 5


def test_pointing_at_a_dot_shows_the_picture_of_its_sample(browser, dominant_report, make_dominant, data):
    _open(browser, dominant_report, width=1300)
    left, top, width, height = _frame(browser, "titled", 1)
    x, y, sample = browser.execute_script(
        """
        const {plot} = outcrop.drawn.flatMap((entry) => entry.plots).filter(({plot}) =>
          plot.tags.some((tag) => tag.role === "titled"))[1];
        const {x_scale, y_scale, bbox} = Bokeh.index.find_one(plot).frame;
        const {size, norm, sample} = plot.renderers[1].data_source.data;
        return [x_scale.compute(size[2]) - bbox.left, y_scale.compute(norm[2]) - bbox.top, sample[2]];
        """
    )
    assert 0 <= x <= width
    assert 0 <= y <= height
    assert sample == "rocket/0002.png, rocket"
    assert sample in _tooltip(browser, left + x, top + y)
    shown = _wait(
        browser,
        """
        const found = [];
        const walk = (node) => { for (const child of node.querySelectorAll("*")) if (child.shadowRoot !== null) {
          if (child.classList.contains("bk-Tooltip") && child.checkVisibility()) {
            found.push(...[...child.shadowRoot.querySelectorAll("img")].map((image) => image.src));
          }
          walk(child.shadowRoot);
        } };
        walk(document);
        return found[0];
        """,
    )
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.partition(",")[2]))).convert("RGB")).astype(float)
    expected = data["patches-5ee1"]["thumbnail"].values[2].astype(float)
    np.testing.assert_allclose(picture.mean(axis=(0, 1)), expected.mean(axis=(0, 1)), atol=4)
