"""What ONNX Runtime's errors mean, in one line of plain words."""

import re


def explain(error: Exception) -> str:
    """Return in one line what ONNX Runtime means."""
    text = " ".join(str(error).split())
    for pattern, sentence in _EXPLANATIONS:
        match = re.search(pattern, text)
        if match is not None:
            return sentence.format(*match.groups())
    # Status code, source file and C++ signature say nothing to the reader.
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Error in execution: ", "", text)
    text = re.sub(
        r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: ", r"\1 \2: ", text
    )
    text = re.sub(r"/\S+\.(cc|h):\d+ (?:[^()]*\([^)]*\)+(?: const)?)? ?", "", text)
    return " ".join(text.replace(" :", ":").split()).rstrip(".") + "."


_EXPLANATIONS = (
    (r"No Op registered for (\S+) with domain_version of (\d+)", "there is no operator {0} in opset {1}."),
    (r"Fatal error: (\S+?)\(-?\d+\) is not a registered function/op", "the operator {0} is not one it knows."),
    (
        r"Could not find an implementation for (\w+)\((\d+)\)",
        "it has no implementation of the operator {0} (version {1}) for these types.",
    ),
    (
        r"Opset (\d+) is under development .* support for domain (\S+) is till opset (\d+)",
        "opset {0} of {1} is newer than the installed onnxruntime, which knows up to {2}; upgrade onnxruntime.",
    ),
    (
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        "IR version {0} is newer than the installed onnxruntime, which reads up to {1}; upgrade onnxruntime.",
    ),
    (
        r'External data path does not exist: "([^"]*)"',
        "its weights lie in {0}, which does not exist; keep that file beside the model.",
    ),
)
