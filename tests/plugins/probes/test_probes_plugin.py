import subprocess
import sys


def test_listing_analysis_and_stimuli_imports_no_torch_no_scipy_and_no_xarray():
    code = (
        "import sys; from outcrop_probes.plugin import outcrop_analyses, outcrop_stimuli; (found,) = outcrop_analyses()"
        "; found.parameters.model_fields; assert found.name == 'probes' and found.summary and found.produces; "
        "names = [family.name for family in outcrop_stimuli()]; assert len(set(names)) == len(names) > 20; "
        "sys.exit(bool({'torch', 'xarray', 'scipy', 'skimage', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
