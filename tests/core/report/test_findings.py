"""What analyses other than the block detector found, at the head of the report."""

import numpy as np
import pytest

from outcrop.report import Run, write_report
from outcrop.report.findings import read_findings
from outcrop.report.page import _found


def of(leaves, analysis="probes"):
    return read_findings(Run(analysis, "r1", leaves))


def test_probes_are_told_with_the_answer_and_the_recipe_of_the_paper(make_probes):
    (finding,) = of(make_probes())
    assert (finding.model, finding.heading) == ("net", "Probes")
    assert finding.text == (
        "Synthetic samples with a mean blue of 0.6 or more, as dominant samples have, excite the block stage.2 to "
        "stage.4 at least as much as the most dominant real sample does: solid 0.00 0.00 1.00 lies 2.5 times as far "
        "out. As many without it do not: of 9, the farthest is expected at 0.85 times. Of single values that dominant "
        "samples have, border of dominant image 1 lies 1.2 times as far out, with 4.81 times the median norm."
    )


def test_dominant_samples_are_told_with_what_they_share_and_what_leaving_them_out_does(make_dominant):
    leaves = make_dominant()
    (finding,) = of(leaves, "dominant")
    assert finding.heading == "Dominant samples"
    assert finding.text.startswith("10 of 120 samples dominate the first principal component of stage1.2; they have ")
    assert "AUROC" in finding.text
    verdict = str(leaves["removal"]["verdict"].values[0])
    assert finding.text.endswith(f" Leaving samples out: {verdict.rstrip('.')}.")
    untold = leaves["association"].assign(leading_statistic=("block", [""]))
    (finding,) = of({**leaves, "association": untold}, "dominant")
    assert "; no statistic tells them from the rest. Leaving" in finding.text
    (finding,) = of({"references": leaves["references"]}, "dominant")
    assert finding.text == "10 of 120 samples dominate the first principal component of stage1.2."


def test_models_of_several_analyses_are_put_together_and_a_run_of_blocks_adds_nothing(
    make_probes, make_dominant, make_run
):
    runs = [
        Run("probes", "r1", make_probes(("net", "other"))),
        Run("dominant", "r1", make_dominant()),
        Run("blocks", "r1", make_run([("net", 12, (2, 10))])),
    ]
    found = _found(runs)
    assert {model: [one.heading for one in findings] for model, findings in found.items()} == {
        "net": ["Dominant samples", "Probes"],
        "other": ["Probes"],
    }


def test_of_very_many_models_some_are_told(make_probes):
    verdict = make_probes()["verdict"]
    many = verdict.isel(block=np.zeros(40, int))
    assert len(of({"verdict": many})) == 8


@pytest.mark.parametrize("with_blocks", [True, False])
def test_the_head_of_the_report_has_them(tmp_path, make_probes, make_run, make_results, data, with_blocks):
    runs = [("probes", "p1", make_probes(), "2026-03-04T12:30:00")]
    if with_blocks:
        runs.append(("blocks", "b1", make_run([("net", 12, (2, 10))]), "2026-03-04T12:00:00"))
    page = write_report(make_results(runs), data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    head = page[page.index("What was found</h2>") : page.index('<section class="analysis"')]
    assert head.count("<article") == 1
    assert head.count("Synthetic samples with a mean blue") == 1
    assert 'href="#found"' in page
