"""Interventions in training: what makes and unmakes the phenomena, each a small object for anyone's own loop.

    from outcrop_zoo.interventions import PrincipalComponentPenalty

    with PrincipalComponentPenalty(alpha=10, delta=0.2).attach(network) as penalty:
        for images, labels in batches:
            loss = cross_entropy(network(images), labels)
            loss = loss + penalty.penalty()
            ...

Recipes name them by their specifications, which need no torch. Everything is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop_zoo.interventions.batch_norm_recalibration import BatchNormRecalibration, recalibrate_batch_norm
    from outcrop_zoo.interventions.colour_jitter import ColourJitter, jitter_colours
    from outcrop_zoo.interventions.freezing import Frozen, freeze, is_frozen
    from outcrop_zoo.interventions.frozen_prefix import FrozenPrefix
    from outcrop_zoo.interventions.initialisation import InitialiseFrom, initialise_from
    from outcrop_zoo.interventions.intervention import Intervention, make_intervention
    from outcrop_zoo.interventions.invertibility import inversion_deficit
    from outcrop_zoo.interventions.principal_component_penalty import (
        PrincipalComponentPenalty,
        principal_component_share,
    )
    from outcrop_zoo.interventions.rotation import Rotation, compensate_rotation, insert_rotation, remove_rotation
    from outcrop_zoo.interventions.rotation_insertion import RotationInsertion
    from outcrop_zoo.interventions.rotation_matrices import geodesic, rotation_matrix
    from outcrop_zoo.interventions.specs import (
        BatchNormRecalibrationSpec,
        ColourJitterSpec,
        FrozenPrefixSpec,
        InitialiseFromSpec,
        InterventionSpec,
        PrincipalComponentPenaltySpec,
        RotationSpec,
    )

_MODULES = {
    "batch_norm_recalibration": ("BatchNormRecalibration", "recalibrate_batch_norm"),
    "colour_jitter": ("ColourJitter", "jitter_colours"),
    "freezing": ("Frozen", "freeze", "is_frozen"),
    "frozen_prefix": ("FrozenPrefix",),
    "initialisation": ("InitialiseFrom", "initialise_from"),
    "intervention": ("Intervention", "make_intervention"),
    "invertibility": ("inversion_deficit",),
    "principal_component_penalty": ("PrincipalComponentPenalty", "principal_component_share"),
    "rotation": ("Rotation", "compensate_rotation", "insert_rotation", "remove_rotation"),
    "rotation_insertion": ("RotationInsertion",),
    "rotation_matrices": ("geodesic", "rotation_matrix"),
    "specs": (
        "BatchNormRecalibrationSpec",
        "ColourJitterSpec",
        "FrozenPrefixSpec",
        "InitialiseFromSpec",
        "InterventionSpec",
        "PrincipalComponentPenaltySpec",
        "RotationSpec",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BatchNormRecalibration",
    "BatchNormRecalibrationSpec",
    "ColourJitter",
    "ColourJitterSpec",
    "Frozen",
    "FrozenPrefix",
    "FrozenPrefixSpec",
    "InitialiseFrom",
    "InitialiseFromSpec",
    "Intervention",
    "InterventionSpec",
    "PrincipalComponentPenalty",
    "PrincipalComponentPenaltySpec",
    "Rotation",
    "RotationInsertion",
    "RotationSpec",
    "compensate_rotation",
    "freeze",
    "geodesic",
    "initialise_from",
    "insert_rotation",
    "inversion_deficit",
    "is_frozen",
    "jitter_colours",
    "make_intervention",
    "principal_component_share",
    "recalibrate_batch_norm",
    "remove_rotation",
    "rotation_matrix",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
