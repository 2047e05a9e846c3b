"""What an intervention may do to a training, and how one is made from its specification."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from outcrop_zoo.interventions import specs

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class Intervention:
    """Takes part in a training; a subclass overrides what it needs, and everything else does nothing.

    A training loop calls, for each of its interventions in their order, :meth:`prepare` before it makes the optimiser,
    :meth:`augment` on every training batch, and :meth:`penalty` after every forward pass of one; at the end
    :meth:`calibrate` of all, and only then :meth:`finish` of all. What :meth:`state_dict` returns belongs into its
    checkpoints. No intervention draws from torch's global generator.

        for one in interventions:
            network = one.prepare(network)
        ...
        for one in interventions:
            one.calibrate(network, batches)
        for one in interventions:
            network = one.finish(network)
    """

    def prepare(self, network: "nn.Module") -> "nn.Module":
        """Return the network to train: the same object, changed in place, or another one."""
        return network

    def augment(self, images: "Tensor", generator: "Generator") -> "Tensor":  # noqa: ARG002 - for subclasses
        """Return images (sample, channel, y, x) in [0, 1] of a training batch, changed at random; after crop and flip.

        Args:
            images: Left as they are.
            generator: The only source of chance.
        """
        return images

    def penalty(self) -> "Tensor | None":
        """Return what the last forward pass adds to the loss, a scalar, or None."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs: tensors, numbers, strings, and dicts of these."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned; after :meth:`prepare`."""

    def calibrate(self, network: "nn.Module", batches: "Callable[[], Iterator[Tensor]]") -> None:
        """Fit what is measured, and not trained, to the trained weights, in place.

        Everything is still as it was during training: what an intervention froze is frozen.

        Args:
            network: As :meth:`prepare` returned it, trained.
            batches: Each call returns training images (sample, channel, y, x), batch by batch, for one epoch.
        """

    def finish(self, network: "nn.Module") -> "nn.Module":
        """Return the trained and calibrated network without hooks, ready to be exported."""
        return network


def make_intervention(
    spec: specs.InterventionSpec, *, load_network: "Callable[[str], nn.Module]", seed: int
) -> Intervention:
    """Return the intervention that a specification describes.

    Args:
        spec: From a recipe.
        load_network: Returns the trained network of a zoo name; called by :meth:`Intervention.prepare` only.
        seed: Of the training; a specification's own seed goes before.
    """
    match spec:
        case specs.PrincipalComponentPenaltySpec():
            from outcrop_zoo.interventions.principal_component_penalty import PrincipalComponentPenalty

            return PrincipalComponentPenalty(
                alpha=spec.alpha, delta=spec.delta, from_stage=spec.from_stage, modules=spec.modules, seed=seed
            )
        case specs.ColourJitterSpec():
            from outcrop_zoo.interventions.colour_jitter import ColourJitter

            return ColourJitter(**spec.model_dump(exclude={"kind"}))
        case specs.InitialiseFromSpec():
            from outcrop_zoo.interventions.initialisation import InitialiseFrom

            return InitialiseFrom(partial(load_network, spec.model), part=spec.part)
        case specs.FrozenPrefixSpec():
            from outcrop_zoo.interventions.frozen_prefix import FrozenPrefix

            return FrozenPrefix(
                None if spec.model is None else partial(load_network, spec.model),
                layers=spec.layers,
                trainable=spec.trainable,
                seed=spec.seed,
            )
        case specs.RotationSpec():
            from outcrop_zoo.interventions.rotation_insertion import RotationInsertion

            return RotationInsertion(
                spec.site,
                rotation=spec.rotation,
                seed=spec.seed,
                train=spec.train,
                features=spec.features,
                dimensions=spec.dimensions,
                fraction=spec.fraction,
                source=None if spec.model is None else partial(load_network, spec.model),
                from_scratch=spec.from_scratch,
            )
        case specs.BatchNormRecalibrationSpec():
            from outcrop_zoo.interventions.batch_norm_recalibration import BatchNormRecalibration

            return BatchNormRecalibration(batches=spec.batches)
    assert_never(spec)
