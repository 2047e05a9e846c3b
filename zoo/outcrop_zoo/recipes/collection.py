"""The recipes that come with the zoo, family by family."""

from collections.abc import Iterator

from outcrop_zoo.architectures.architecture import Architecture
from outcrop_zoo.interventions.specs import (
    BatchNormRecalibrationSpec,
    ColourJitterSpec,
    FrozenPrefixSpec,
    InitialiseFromSpec,
    InterventionSpec,
    PrincipalComponentPenaltySpec,
    RotationSpec,
)
from outcrop_zoo.recipes.recipe import Recipe

CIFAR10 = "cifar10-jpeg"
CIFAR10_EPOCHS = 100
SEEDS = (0, 1, 2)
DEEP = 110
"""Depth at which 300 images of each class make a block; at 56 they do not."""

PREFIX_DEPTH = 14
PREFIX_LAYERS = (1, 3, 5)
"""Of a ResNet-14's eight: the stem; with it stage 1; with both stage 2."""

SHARED_EPOCHS = 10
"""Of the training, before two orders of the images part."""

SERIES_STEPS = (0, 30, 240, 960, 2400)
"""Initialisation; where the first component takes the majority (arXiv 2202.07184, appendix E); epochs 10, 40, 100."""


def recipes() -> dict[str, Recipe]:
    """Return all recipes by the name of the model they make."""
    families = (
        _patches,
        _quick,
        _cifar10,
        _regularised,
        _shake_shake,
        _transferred,
        _jittered,
        _small_batches,
        _frozen_prefixes,
        _rotated,
        _series,
        _reordered,
    )
    return {recipe.name: recipe for family in families for recipe in family()}


def _patches() -> Iterator[Recipe]:
    """Yield what the demo shows: a shallow network and a deep one, two seeds each."""
    for depth in (14, DEEP):
        for seed in (0, 1):
            yield Recipe(
                name=f"resnet{depth}-patches-seed{seed}",
                family="resnet-patches",
                architecture=Architecture(depth=depth),
                seed=seed,
            )


def _quick() -> Iterator[Recipe]:
    """Yield the smallest: seconds of training, on images that every installation has."""
    yield Recipe(
        name="resnet8-patches-quick",
        family="quick",
        architecture=Architecture(depth=8),
        images_per_class=40,
        epochs=2,
        precision="float32",
    )


def _cifar10() -> Iterator[Recipe]:
    """Yield depths at width 1, widths at depth 8, and two that want a GPU."""
    for depth in (14, 38, DEEP):
        yield from (_on_cifar10(depth, 1, seed) for seed in SEEDS)
    for width in (1, 2, 4, 8):
        yield from (_on_cifar10(8, width, seed) for seed in (0, 1))
    for depth, width in ((164, 1), (38, 4)):
        yield from (_on_cifar10(depth, width, seed) for seed in SEEDS)


def _regularised() -> Iterator[Recipe]:
    """Yield principal-component regularisation (arXiv 2202.07184, appendix G)."""
    for seed in SEEDS:
        yield _changed(DEEP, "regularised", seed, PrincipalComponentPenaltySpec())


def _shake_shake() -> Iterator[Recipe]:
    """Yield Shake-Shake (arXiv 2202.07184, section 5); a short training leaves its batch norm behind."""
    for depth in (26, DEEP):
        for seed in SEEDS:
            yield Recipe(
                name=f"shakeshake{depth}-cifar10-seed{seed}",
                family="shakeshake-cifar10",
                architecture=Architecture(name="shake_shake", depth=depth),
                data=CIFAR10,
                seed=seed,
                epochs=CIFAR10_EPOCHS,
                interventions=(BatchNormRecalibrationSpec(),),
            )


def _transferred() -> Iterator[Recipe]:
    """Yield starts from a network that was trained on other images (arXiv 2202.07184, section 5)."""
    source = f"resnet{DEEP}-patches-seed0"
    for seed in SEEDS:
        yield _changed(DEEP, "pretrained", seed, InitialiseFromSpec(model=source))
    yield _changed(DEEP, "pretrained1", 0, InitialiseFromSpec(model=source, part="first_stage"))


def _jittered() -> Iterator[Recipe]:
    """Yield colour augmentation (arXiv 2202.07184, section 5)."""
    yield _changed(DEEP, "jitter", 0, ColourJitterSpec())


def _small_batches() -> Iterator[Recipe]:
    """Yield batches of 16 (arXiv 2202.07184, appendix H)."""
    plain = _changed(DEEP, "batch16", 0)
    yield plain.model_copy(update={"batch_size": 16})


def _frozen_prefixes() -> Iterator[Recipe]:
    """Yield partners of ``resnet14-cifar10-seed0`` that share its first layers, and controls (arXiv 2307.12941)."""
    first, depth = f"resnet{PREFIX_DEPTH}-cifar10-seed0", PREFIX_DEPTH
    for layers in PREFIX_LAYERS:
        yield _changed(depth, f"frozen{layers}", 1, FrozenPrefixSpec(model=first, layers=layers))
    middle = PREFIX_LAYERS[1]
    # Shared at the start, and free afterwards.
    yield _changed(depth, f"shared{middle}", 1, FrozenPrefixSpec(model=first, layers=middle, trainable=True))
    # Frozen, as good, and not shared.
    other = f"resnet{depth}-cifar10-seed2"
    yield _changed(depth, f"other{middle}", 1, FrozenPrefixSpec(model=other, layers=middle))
    # Frozen, shared by the two, and random.
    for seed in (0, 1):
        yield _changed(depth, f"random{middle}", seed, FrozenPrefixSpec(layers=middle))


def _rotated() -> Iterator[Recipe]:
    """Yield a rotation behind a ReLU that the layers before it must invert; a permutation is the positive control.

    The snapshot of step 0 is the network with the rotation and no training, from which recovery is counted.
    """
    for rotation in ("haar", "permutation"):
        spec = RotationSpec.model_validate(
            {
                "site": "stage2.1.relu2",
                "rotation": rotation,
                "train": "upstream",
                "model": f"resnet{PREFIX_DEPTH}-cifar10-seed0",
            }
        )
        yield _changed(PREFIX_DEPTH, f"rotated-{rotation}", 0, spec).model_copy(update={"snapshots": (0,)})


def _series() -> Iterator[Recipe]:
    """Yield trainings that keep five checkpoints, two of them within the first ten epochs."""
    for depth in (14, DEEP):
        yield _changed(depth, "series", 0).model_copy(update={"snapshots": SERIES_STEPS})


def _reordered() -> Iterator[Recipe]:
    """Yield partners of the plain ``seed0``: the same start, another order of the images from some epoch on.

    Whether the two are connected linearly is the instability analysis of arXiv 1912.05671.
    """
    for depth in (PREFIX_DEPTH, DEEP):
        for epochs in (0, SHARED_EPOCHS):
            changes = {"order_seed": 1, "shared_epochs": epochs}
            yield _changed(depth, f"reordered{epochs or ''}", 0).model_copy(update=changes)


def _on_cifar10(depth: int, width: int, seed: int) -> Recipe:
    return Recipe(
        name=f"resnet{depth}{'' if width == 1 else f'x{width}'}-cifar10-seed{seed}",
        family="resnet-cifar10",
        architecture=Architecture(depth=depth, width=width),
        data=CIFAR10,
        seed=seed,
        epochs=CIFAR10_EPOCHS,
    )


def _changed(depth: int, change: str, seed: int, *interventions: InterventionSpec) -> Recipe:
    """Return the recipe of a plain ResNet with interventions, in a family of its own."""
    changes = {
        "name": f"resnet{depth}-cifar10-{change}-seed{seed}",
        "family": f"resnet-cifar10-{change}",
        "interventions": interventions,
    }
    return _on_cifar10(depth, 1, seed).model_copy(update=changes)
