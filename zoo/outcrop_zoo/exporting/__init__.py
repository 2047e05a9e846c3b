"""Turn torch networks into ONNX files that keep modules, batch norm and the names of parameters, and prove it.

:func:`export_model` takes what ``outcrop.load_model`` takes, :func:`export_network` a module and examples.
"""

from outcrop_zoo.exporting.network import PARITY_TOLERANCE, Export, export_network
from outcrop_zoo.exporting.parity import measure_parity, open_session, relative_error, run_graph
from outcrop_zoo.exporting.reference import PreprocessingLeftOutWarning, export_model

__all__ = [
    "PARITY_TOLERANCE",
    "Export",
    "PreprocessingLeftOutWarning",
    "export_model",
    "export_network",
    "measure_parity",
    "open_session",
    "relative_error",
    "run_graph",
]
