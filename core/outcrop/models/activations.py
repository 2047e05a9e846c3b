"""Tell activation functions by name; needs no torch."""

import re

_ACTIVATION = re.compile(
    r"^(hard|leaky|log|quick|fast)?_?-?(relu6?|elu|celu|gelu|selu|silu|swish|mish|sigmoid|tanh|prelu|rrelu|softplus"
    r"|softsign|hardtanh|threshold|glu|tanhshrink|softshrink|hardshrink|logsigmoid|gelutanh|geluactivation|crelu"
    r"|newgeluactivation|quickgelu|quickgeluactivation|fastgeluactivation|siluactivation|mishactivation|thresholdedrelu"
    r"|biasgelu|clip|starrelu|squaredrelu|relusquared|relusquaredactivation|fusedleakyrelu)(me|jit|_?fn)?$"
)


def is_activation(operation: str) -> bool:
    """Return whether an operation (module class, function or ONNX operator) is an activation function."""
    return _ACTIVATION.match(operation.lower()) is not None
