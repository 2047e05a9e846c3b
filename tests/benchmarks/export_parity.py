"""Export networks of many architectures to ONNX, and compare all their layers with torch.

    python tests/benchmarks/export_parity.py
    python tests/benchmarks/export_parity.py --folded --model timm:test_resnet --model torchvision:resnet18

Weights are random, and so are the weights and statistics of batch norm: untrained they are ones and zeros, which hide
what is forgotten. Prints, per network, how many modules were compared, the largest difference relative to the largest
value of its module, seconds and megabytes. Fails where a network is refused, where a parameter has lost its name, or
where batch norm has been folded unasked.
"""

import argparse
import sys
import time

import onnx
import torch
from torch import nn

from outcrop.errors import OutcropError
from outcrop.models import load_model
from outcrop.models.torch_ import TorchModel
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.exporting import PARITY_TOLERANCE, Export, export_model

TIMM = [
    "test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_byobnet", "test_nfnet", "test_mambaout",
    "test_coatnet", "test_maxvit", "test_vit_relpos",
]  # fmt: skip
TORCHVISION = ["resnet18", "mobilenet_v2", "densenet121", "vit_b_16", "convnext_tiny", "googlenet"]
OURS = "CifarResNet(20)"


def load(reference: str) -> TorchModel:
    """Return a network with random weights and random batch statistics."""
    source, _, name = reference.partition(":")
    options = {"timm": "?pretrained=false", "torchvision": "?weights=none"}
    torch.manual_seed(0)
    model = load_model(CifarResNet(20) if reference == OURS else f"{source}:{name}{options[source]}", device="cpu")
    assert isinstance(model, TorchModel)
    generator = torch.Generator().manual_seed(1)
    for module in model.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.7, 1.4, generator=generator)
    return model


def problems(export: Export, model: TorchModel, *, folded: bool) -> list[str]:
    """Return what is wrong with an export beside its values."""
    names = {initializer.name for initializer in export.model.graph.initializer}
    kept = {key for key, value in model.network.state_dict().items() if value.is_floating_point()}
    norms = {path for path, module in model.network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    onnx.checker.check_model(onnx.load_from_string(export.content), full_check=True)
    if folded:
        return [] if export.folded else ["nothing was folded"]
    found = [f"{len(kept - names)} parameters lost"] if kept - names else []
    used = {path for path in norms if f"{path}.weight" not in export.unused}
    return found + ([f"{export.batch_norms} of {len(used)} batch norms"] if export.batch_norms < len(used) else [])


def main() -> int:
    """Print the table; return 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="reference such as timm:test_vit; may be repeated")
    parser.add_argument("--folded", action="store_true", help="fold batch norm into the convolutions before it")
    options = parser.parse_args()
    references = options.model or [
        *(f"timm:{name}" for name in TIMM), *(f"torchvision:{name}" for name in TORCHVISION), OURS,
    ]  # fmt: skip
    print(
        f"{'architecture':28}{'modules':>8}{'layers':>8}{'largest error':>15}{'s':>7}{'MB':>8}{'norms':>7}{'folded':>8}"
    )
    failed = 0
    for reference in references:
        start = time.perf_counter()
        try:
            model = load(reference)
            export = export_model(model, folded=options.folded)
            wrong = problems(export, model, folded=options.folded)
        except OutcropError as error:
            print(f"{reference:28}{error}", flush=True)
            failed += 1
            continue
        error = export.parity.largest_relative_error
        print(
            f"{reference:28}{export.parity.modules:8}{export.layers:8}{error:15.1e}{time.perf_counter() - start:7.1f}"
            f"{len(export.content) / 1e6:8.1f}{export.batch_norms:7}{len(export.folded):8}  {'; '.join(wrong)}",
            flush=True,
        )
        failed += bool(wrong) or not error <= PARITY_TOLERANCE
    print(f"{len(references) - failed} of {len(references)} agree within {PARITY_TOLERANCE:.0e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
