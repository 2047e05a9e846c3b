import subprocess
import sys


def test_listing_the_analysis_imports_no_torch_and_no_xarray():
    code = (
        "import sys; from outcrop_dominant.plugin import outcrop_analyses; (found,) = outcrop_analyses(); "
        "found.parameters.model_fields; assert found.name == 'dominant' and found.summary and found.produces; "
        "sys.exit(bool({'torch', 'xarray', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
