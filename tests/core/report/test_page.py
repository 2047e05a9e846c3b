import dataclasses
import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from outcrop.errors import ReportError
from outcrop.numerics.blocks.block_detection import DEFAULT_THRESHOLDS
from outcrop.plugins import plugin_registry
from outcrop.report import Drawing, Figure, Run, Table, write_report
from outcrop.report.page import _figures


class Elements(HTMLParser):
    """Collect the elements of a page, their attributes and the text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag in {"script", "style"}:
            self._inside.append(tag)

    def handle_endtag(self, tag):
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()
        if tag in {"td", "th"}:
            self.text += " "

    def handle_data(self, data):
        if not self._inside:
            self.text += data


@pytest.fixture(scope="module")
def page(results, data, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert write_report(results, data, path, title="Two networks") == path
    return path.read_text(encoding="utf-8")


def test_no_element_names_anything_outside_the_file(page):
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "data", "poster", "srcset", "action"):
            value = attributes.get(name, "")
            assert value == "" or value.startswith(("data:", "#")), (tag, name, value[:80])
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_a_policy_forbids_the_page_to_load_anything(page):
    policy = next(a["content"] for tag, a in Elements(page).found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_verdicts_samples_and_provenance_are_in_the_text(page):
    text = " ".join(Elements(page).text.split())
    assert "resnet32-patches-seed0 block A block of 7 of 15 block outputs, stage2.0.relu2 to stage3.1.relu2" in text
    assert "resnet14-patches-seed0 no block No block among 7 block outputs" in text
    assert "2 models, 160 layers; 120 samples of patches in 6 classes; analysed for blocks." in text
    assert "sha256:00ab34cd" in text
    assert (
        "outcrop run blocks --model zoo:resnet14-patches-seed0 --model zoo:resnet32-patches-seed0 --data zoo:patches"
        in text
    )
    images = [a for tag, a in Elements(page).found if tag == "img" and a["alt"].startswith("cat/")]
    assert len(images) == 13
    assert images[0]["alt"] == "cat/0000.png, cat"


def test_every_matrix_is_in_the_file_once(page, two_models):
    assets = json.loads(re.search(r'id="assets">(.*?)</script>', page, re.DOTALL)[1])
    maps = [key for key in assets if "codes" in assets[key]]
    assert sorted(key.rsplit("/", 1)[1] for key in maps) == sorted(two_models["pairwise"].data_vars)
    for key in maps:
        assert page.count(assets[key]["codes"]) == 1


def test_four_bundled_networks_fit_into_fifteen_megabytes(tmp_path, make_run, make_results, data):
    models = [("a", 51, None), ("b", 51, None), ("c", 387, (140, 310)), ("d", 387, (100, 320))]
    tree = make_results([("blocks", "r1", make_run(models), "2026-03-04T12:30:00")])
    assert write_report(tree, data, tmp_path / "r.html", title="t").stat().st_size < 15e6


def test_names_that_look_like_markup_are_shown_and_never_run(tmp_path, make_run, make_results, make_data):
    evil = "</script><script>window.hacked=1</script><img src=x onerror=alert(1)>"

    def names(count):
        return [(f"{evil}.{i}", "block") for i in range(count)]

    run = make_run([(evil, 12, (2, 10))], names=names, degenerate=[0])
    tree = make_results([("blocks", "r1", run, "2026-03-04T12:30:00")])
    data = make_data(12, classes=(evil, "b"))
    page = write_report(tree, data, tmp_path / "r.html", title=evil).read_text(encoding="utf-8")
    assert evil not in page
    assert html.escape(evil, quote=False) in page
    scripts = [a.get("type", "") for tag, a in Elements(page).found if tag == "script"]
    assert "window.hacked=1</script>" not in page
    assert set(scripts) == {"", "application/json"}
    assert scripts.count("") == 2
    assert not [a for tag, a in Elements(page).found if any(name.startswith("on") for name in a)]
    for content in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL):
        json.loads(content)


def test_the_newest_run_comes_first_and_older_ones_are_folded(tmp_path, make_run, make_results, data):
    old = make_run([("old-model", 30, None)])
    new = make_run([("new-model", 30, None)])
    tree = make_results([("blocks", "a", new, "2026-03-04T12:30:00"), ("blocks", "b", old, "2026-03-01T12:30:00")])
    page = write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    folded = page[page.index("<details") : page.index("</details>")]
    assert "Older run of 2026-03-01 12:30: old-model" in " ".join(folded.split())
    assert "old-model" not in page[: page.index("<details")]
    assert "new-model" not in folded


def test_maps_of_older_runs_are_left_out_before_the_file_grows_too_large(
    tmp_path, make_run, make_results, data, monkeypatch
):
    monkeypatch.setattr("outcrop.report.page._BUDGET", 18_000)
    runs = [("blocks", f"r{i}", make_run([("m", 40, None)], seed=i), f"2026-03-0{i + 1}T12:30:00") for i in range(3)]
    page = write_report(make_results(runs), data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    assert page.count("The maps of this older run are left out to keep the file small") == 1
    assert '"blocks/r2/similarity"' in page
    assert '"blocks/r1/similarity"' in page
    assert '"blocks/r0/similarity"' not in page


def test_a_kind_without_a_figure_becomes_a_table(tmp_path, make_results, data):
    curve = xr.Dataset(
        {"loss": ("step", [3.0, 2.0, np.nan]), "note": ("step", ["a", "<b>", "c"]), "map": (("y", "x"), np.eye(3))},
        attrs={"kind": "curve"},
    )
    tree = make_results([("path", "r1", {"curve": curve}, "2026-03-04T12:30:00")])
    page = write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    text = " ".join(Elements(page).text.split())
    assert "loss step 3 2.00 2.50 3.00 1" in text
    assert "Along step loss note 3.00 a 2.00 <b> \u2013 c" in text


def test_a_figure_that_fails_costs_a_sentence_and_not_the_report(tmp_path, make_results, data):
    broken = xr.Dataset({"similarity": ("layer_a", [1.0])}, attrs={"kind": "pairwise"})
    tree = make_results([("mine", "r1", {"pairwise": broken}, "2026-03-04T12:30:00")])
    page = write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    assert "The figure of kind &#39;pairwise&#39; could not be drawn, so its values are listed." in page


def test_a_figure_of_a_kind_is_found_by_the_kind():
    for kind, figure in _figures().items():
        assert figure.kind == figure.name == kind
    assert {"pairwise", "per_layer", "blocks"} <= set(_figures())


@pytest.mark.parametrize("kind", ["mean_norm.per_layer", "other.mean_norm.per_layer"])
def test_a_kind_that_extends_another_gets_that_ones_figure(tmp_path, make_run, make_results, data, kind):
    extended = make_run([("m", 8, None)])["per_layer"].drop_vars("pc_share")
    norms = extended.assign(mean_norm=("layer", np.arange(8.0), {"long_name": "mean norm"})).assign_attrs(kind=kind)
    tree = make_results([("mean-norm", "r1", {"norms": norms}, "2026-03-04T12:30:00")])
    page = write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    text = " ".join(Elements(page).text.split())
    assert "Along the depth" in text
    assert "mean norm" in text
    assert ", 8 layers; 120 samples" in text  # which are those of the extended kind
    assert page.count('class="document"') == 2  # a plot of each number
    assert "variable dimensions unit" not in text


def test_the_parts_of_a_run_are_found_by_what_they_extend(make_run):
    leaves = make_run([("m", 8, None)])
    mine = leaves["per_layer"].assign_attrs(kind="mine.per_layer")
    assert Run("a", "r", {"mine": mine}).of_kind("per_layer") is mine
    assert Run("a", "r", {"mine": mine, "other": leaves["per_layer"]}).of_kind("per_layer") is leaves["per_layer"]
    assert Run("a", "r", {"mine": mine}).of_kind("layer") is None


PLUGIN = """
from outcrop import hookimpl
from outcrop.report import Drawing, Figure, Table


def draw(dataset, run):
    from bokeh.plotting import figure

    plot = figure(height=200, width=300)
    plot.line(dataset["step"].values, dataset["loss"].values)
    return [Drawing("Loss of " + run.analysis, "Drawn by a plugin.", (plot,), Table(("least",), ((1.25,),)))]


@hookimpl
def outcrop_figures():
    return [Figure(kind="shop_curve", title="Curves of the shop", draw=draw)]
"""


@pytest.fixture
def installed_plugin(tmp_path, monkeypatch):
    """A distribution with a figure, found as an installed one is: by the metadata on the path."""
    metadata = tmp_path / "shop-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[outcrop]\nshop = shop_figures\n")
    (tmp_path / "shop_figures.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    plugin_registry.cache_clear()
    yield
    plugin_registry.cache_clear()
    sys.modules.pop("shop_figures", None)


@pytest.mark.parametrize("kind", ["shop_curve", "finer.shop_curve"])
@pytest.mark.usefixtures("installed_plugin")
def test_the_figure_of_an_installed_plugin_reaches_the_page(tmp_path, make_results, data, kind):
    curve = xr.Dataset({"loss": ("step", [3.0, 1.25])}, {"step": [0, 1]}, {"kind": kind})
    tree = make_results([("descent", "r1", {"curve": curve}, "2026-03-04T12:30:00")])
    page = write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    text = " ".join(Elements(page).text.split())
    assert "Curves of the shop Loss of descentDrawn by a plugin." in text
    assert "least 1.25" in text
    assert page.count('class="document"') == 1


def test_the_rules_of_a_block_are_told_with_their_numbers(tmp_path, make_run, make_results, data):
    run = make_run([("deep", 109, (38, 91))])
    asked = dataclasses.asdict(DEFAULT_THRESHOLDS) | {"support_ratio": 1.75, "minimum_layers": 3}
    run["blocks"].attrs |= {"thresholds": json.dumps(asked), "confidence": 0.9}
    tree = make_results([("blocks", "r1", run, "2026-03-04T12:30:00")])
    text = Elements(write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")).text
    for words in (
        "an interval of at least 3 layers and 10 % of those searched, with a mean CKA of at least 0.90",
        "at most 10 % of the pairs, and no layer's own mean, lie below 0.80",
        "of at least 1.75 times that outside, and where removing that component from every layer leaves",
        "Where nothing is outside, there is no contrast, and no block.",
        "leaves at most 50 % of its contrast, the mean CKA inside less that between inside and outside",
        "Second lines: 90 % bootstrap intervals",
    ):
        assert words in text
    assert "dominat" not in text
    run["blocks"]["contrast_without_pc1"][:] = run["blocks"]["score_low"][:] = np.nan
    run["blocks"]["dissolved"][:] = run["blocks"]["is_block"][:] = False
    run["blocks"]["verdict"] = ("model", ["similar layers, not a block"])
    tree = make_results([("blocks", "r1", run, "2026-03-04T12:30:00")])
    text = Elements(write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")).text
    assert "Second lines" not in text
    assert "yes not known" in " ".join(text.split())
    earlier = run["blocks"].drop_vars([name for name in run["blocks"].data_vars if "without_pc1" in name])
    run["blocks"] = earlier.assign_attrs(kind_version="1.0")
    tree = make_results([("blocks", "r1", run, "2026-03-04T12:30:00")])
    text = Elements(write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")).text
    assert "that outside (of at least 50 % where there is nothing outside to compare with), and where removing" in text
    assert "leaves at most 50 % of its length similar" in text


def test_a_share_that_was_taken_within_batches_says_so(tmp_path, make_run, make_results, data):
    run = make_run([("m", 30, None)])
    tree = make_results([("blocks", "r1", run, "2026-03-04T12:30:00")])
    words = "Taken within batches of 64 samples; small batches overstate it."
    assert words not in write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    run["per_layer"]["pc_share"].attrs["scope"] = "batch"
    run["per_layer"].attrs["batch_size"] = 64
    tree = make_results([("blocks", "r1", run, "2026-03-04T12:30:00")])
    assert write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8").count(words) == 1


def test_an_assumed_preprocessing_is_told_above_what_was_found(tmp_path, make_run, make_results, data):
    tree = make_results([("blocks", "r1", make_run([("m", 30, None)]), "2026-03-04T12:30:00")])
    recorded = json.loads(tree["blocks"]["r1"].attrs["provenance"])
    recorded["models"][0]["preprocessing"] = "resize to 32 (assumed: it states none)"
    tree["blocks"]["r1"].attrs["provenance"] = json.dumps(recorded)
    page = write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    sentence = "The images of m went through an assumed preprocessing: resize to 32 (assumed: it states none)."
    assert page.index("What was found</h2>") < page.index(sentence) < page.index('class="verdict ')
    assert page.count(sentence) == 1


def test_a_strangers_pairwise_result_without_coordinates_gets_its_heatmap(tmp_path, make_results, data):
    plain = xr.Dataset(
        {"distance": (("layer_a", "layer_b"), np.arange(12.0).reshape(3, 4))}, attrs={"kind": "pairwise"}
    )
    tree = make_results([("mine", "r1", {"pairwise": plain}, "2026-03-04T12:30:00")])
    page = write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    assert "could not be drawn" not in page
    assert '"mine/r1/distance"' in page
    assert 'class="document"' in page


def test_strings_as_the_study_stores_them_are_read(tmp_path, results, data, make_run, make_results):
    stored = {
        leaf: dataset.assign_coords(
            {
                name: (v.dims, v.values.astype(np.dtypes.StringDType()))
                for name, v in dataset.coords.items()
                if v.dtype.kind == "U"
            }
        ).assign(
            {
                name: (v.dims, v.values.astype(np.dtypes.StringDType()))
                for name, v in dataset.data_vars.items()
                if v.dtype.kind == "U"
            }
        )
        for leaf, dataset in make_run([("deep", 60, (20, 50))]).items()
    }
    plain = make_run([("deep", 60, (20, 50))])
    pages = [
        write_report(
            make_results([("blocks", "r", run, "2026-03-04T12:30:00")]), data, tmp_path / "r.html", title="t"
        ).read_text()
        for run in (stored, plain)
    ]
    assert Elements(pages[0]).text == Elements(pages[1]).text
    assert "A block of" in pages[0]


def test_a_study_without_results_says_what_to_run(tmp_path, data):
    with pytest.raises(ReportError, match=r"holds no results\. Run an analysis first: outcrop run blocks"):
        write_report(xr.DataTree(), data, tmp_path / "r.html", title="t")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused_as_the_file(tmp_path, results, data):
    with pytest.raises(ReportError, match=r"it is a folder; name a file, such as .*report.html"):
        write_report(results, data, tmp_path, title="t")


def test_a_file_in_a_missing_folder_is_refused_in_one_line(tmp_path, results, data):
    with pytest.raises(
        ReportError, match="No such file or directory; choose a file in a folder you can write to"
    ) as info:
        write_report(results, data, tmp_path / "missing" / "r.html", title="t")
    assert "\n" not in str(info.value)


def test_an_existing_report_is_replaced_as_a_whole(tmp_path, results, data):
    path = tmp_path / "r.html"
    path.write_text("old")
    write_report(results, data, path, title="t")
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert os.listdir(tmp_path) == ["r.html"]


def test_samples_without_pictures_or_labels_are_only_counted(tmp_path, results):
    bare = xr.DataTree.from_dict({"/d": xr.Dataset(coords={"sample": ["a", "b"]})})
    page = write_report(results, bare, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    assert "2 samples; no pictures are stored." in " ".join(Elements(page).text.split())


def test_listing_figures_imports_neither_bokeh_nor_jinja():
    code = (
        "import sys, outcrop.report as r; r.Figure; r.Drawing; r.Run; r.Table; "
        "sys.exit(bool({'bokeh', 'jinja2', 'torch', 'xarray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import outcrop.report

    with pytest.raises(AttributeError, match=r"'outcrop.report' has no attribute 'draw_report'"):
        outcrop.report.draw_report  # noqa: B018 # the access is what is tested


def test_values_of_the_report_are_frozen():
    for value in (Drawing("t"), Table((), ()), Figure("k", "t", lambda *_: [])):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.title = "other"
