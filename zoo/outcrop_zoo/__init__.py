"""The ONNX model zoo of outcrop: cards, models, architectures, recipes and training."""
