"""Print whether every layer of well-known networks is listed and captured without a wrong value.

``python tests/benchmarks/fidelity.py [--only PATTERN] [--quick]``: the light graphs inside the ``onnx`` package, all
``test_*`` networks of timm, and six networks of torchvision, with random weights. Exit status 1 when anything fails.
"""

import argparse
import fnmatch
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import onnx
import timm
import torch
import torchvision
from fidelity_checks import TOLERANCE, Verdict, examine_onnx, examine_torch

TORCHVISION = ("resnet18", "vit_b_16", "densenet121", "swin_t", "efficientnet_b0", "mobilenet_v2")
QUICK = ("test_resnet", "test_vit", "test_convnext", "light_squeezenet", "light_shufflenet", "resnet18")
REFERENCE = ("light_squeezenet", "light_shufflenet", "light_densenet121", "light_inception_v2")
"""Graphs for ``onnx.reference`` too: it is wrong on LRN (its loop runs over samples), slow on large convolutions."""


def networks() -> Iterator[tuple[str, Callable[[], Verdict]]]:
    """Yield the name of each network with what examines it."""
    for path in sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx")):
        yield path.stem, partial(examine_onnx, path.stem, path, reference=path.stem in REFERENCE)
    for name in timm.list_models("test_*"):
        yield name, partial(_timm, name)
    for name in TORCHVISION:
        yield name, partial(_torchvision, name)


def _timm(name: str) -> Verdict:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False)
    return examine_torch(name, network, tuple(network.pretrained_cfg["input_size"]))


def _torchvision(name: str) -> Verdict:
    torch.manual_seed(0)
    return examine_torch(name, torchvision.models.get_model(name, weights=None), (3, 224, 224))


def main() -> int:
    """Examine the chosen networks, print the table, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help="glob of names of networks")
    parser.add_argument("--quick", action="store_true", help="a few small networks")
    options = parser.parse_args()
    failed = 0
    print(f"{'network':24} {'layers':>6} {'checked':>7} {'error':>8} {'s':>6} {'fell back':9} how; kinds")
    for name, examine in networks():
        if not fnmatch.fnmatchcase(name, options.only) or (options.quick and name not in QUICK):
            continue
        verdict = examine()
        failed += _show(verdict)
    print(f"\n{failed} networks fail; a value fails beyond {TOLERANCE:g} of its layer's largest magnitude")
    return 1 if failed else 0


def _show(verdict: Verdict) -> bool:
    kinds = " ".join(f"{kind} {count}" for kind, count in sorted(verdict.kinds.items(), key=lambda item: -item[1]))
    print(
        f"{verdict.network:24} {verdict.layers:6} {verdict.checked:7} {verdict.worst:8.1e} {verdict.seconds:6.1f} "
        f"{'YES' if verdict.fell_back else 'no':9} {verdict.how}; {kinds}",
        flush=True,
    )
    if verdict.unheld:
        print(" " * 25 + "not layers: " + ", ".join(f"{name} {count}" for name, count in verdict.unheld.most_common()))
    for line in verdict.failures[:8]:
        print(f"    FAILS {line}")
    return bool(verdict.failures) or verdict.fell_back or verdict.checked < verdict.layers


if __name__ == "__main__":
    sys.exit(main())
