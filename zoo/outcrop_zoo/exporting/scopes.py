"""Which module of the torch network a node of its export belongs to."""

import ast
import re

import onnx

_SCOPES = "pkg.torch.onnx.name_scopes"


def module_paths(node: onnx.NodeProto) -> tuple[str, ...]:
    """Return the paths of the modules around a node, the outermost first; the network itself is left out."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    # The first scope is the network, the last the operation. A module that is called again has the number of the call.
    return tuple(re.sub(r"@\d+$", "", path) for path in ast.literal_eval(scopes)[1:-1])
