"""Interventions as data, for recipes and cards; needs no torch."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RotationKind = Literal[
    "haar",
    "special_haar",
    "permutation",
    "signed_permutation",
    "positive_diagonal",
    "scaled_permutation",
    "block",
    "geodesic",
    "householder",
]
"""See :func:`outcrop_zoo.interventions.rotation_matrix`."""

TrainedPart = Literal["upstream", "last_upstream", "downstream", "all"]
"""Of a network with an inserted rotation: what lies before it, only the last kernel before it, behind it, or all."""

Share = Annotated[float, Field(ge=0, le=1)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PrincipalComponentPenaltySpec(_Spec):
    """Penalise activations whose first principal component explains more than a share (arXiv 2202.07184, appendix G).

    Attributes:
        alpha: Strength; the paper tries 0.1, 1 and 10.
        delta: Share of the variance below which nothing is penalised.
        from_stage: ReLU outputs of this stage (the first is 1) and later ones are penalised, unless ``modules`` says.
        modules: Paths or patterns (``stage3.*.relu?``) of the modules whose outputs are penalised.
    """

    kind: Literal["principal_component_penalty"] = "principal_component_penalty"
    alpha: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    delta: Share = 0.2
    from_stage: int = Field(default=2, ge=1)
    modules: tuple[str, ...] | None = None


class ColourJitterSpec(_Spec):
    """Colour distortion of SimCLR (arXiv 2002.05709, appendix A) at strength 1, as in arXiv 2202.07184.

    Attributes:
        brightness: Largest number added to or taken from all pixels, which lie in [0, 1].
        contrast: Distances from each channel's mean are multiplied by 1 minus to 1 plus this.
        saturation: Saturations are multiplied by 1 minus to 1 plus this.
        hue: Largest turn of the hue, in full turns.
        probability: Share of images that are jittered.
        greyscale: Share of images that lose their colour.
    """

    kind: Literal["colour_jitter"] = "colour_jitter"
    brightness: Share = 0.8
    contrast: Share = 0.8
    saturation: Share = 0.8
    hue: float = Field(default=0.2, ge=0, le=0.5)
    probability: Share = 0.8
    greyscale: Share = 0.2


class InitialiseFromSpec(_Spec):
    """Start from the weights of a trained network (arXiv 2202.07184, section 5).

    Attributes:
        model: Name of a zoo model of the same architecture.
        part: ``all`` layers but the classifier, or what comes before the second stage.
    """

    kind: Literal["initialise_from"] = "initialise_from"
    model: str
    part: Literal["all", "first_stage"] = "all"


class FrozenPrefixSpec(_Spec):
    """Share early layers between networks, frozen.

    Attributes:
        model: Name of the zoo model that the layers are taken from; None draws random ones.
        layers: How many: a layer is a block, or a convolution or dense layer outside blocks with what follows it.
        trainable: Whether they are trained on, the control that shares no more than the start.
        seed: Of random layers; networks with the same seed share them, whatever their own seeds.
    """

    kind: Literal["frozen_prefix"] = "frozen_prefix"
    model: str | None = None
    layers: int = Field(ge=0)
    trainable: bool = False
    seed: int = 0


class RotationSpec(_Spec):
    """Rotate the channels at one place, and train a part of the network around it.

    Attributes:
        site: Path of the module whose output is rotated.
        rotation: Distribution of the matrix.
        seed: Of the matrix.
        train: Which part is trained; the rest is frozen, its batch norm included.
        features: Channels at the site; by default those of the last layer registered before it.
        dimensions: Of the rotated subspace, for ``block``.
        fraction: Of the way from no rotation (0) to a full one (1), for ``geodesic``.
        model: Name of a zoo model of the same architecture, whose weights the network starts from.
        from_scratch: Whether the trained part keeps its random start, and takes nothing from ``model``.
    """

    kind: Literal["rotation"] = "rotation"
    site: str
    rotation: RotationKind = "haar"
    seed: int = 0
    train: TrainedPart = "upstream"
    features: int | None = Field(default=None, ge=1)
    dimensions: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, ge=0, le=1)
    model: str | None = None
    from_scratch: bool = False

    @model_validator(mode="after")
    def _options_belong_to_the_rotation(self) -> Self:
        if (self.dimensions is not None) != (self.rotation == "block"):
            raise ValueError(
                f"rotation {self.rotation!r} with dimensions={self.dimensions}: give dimensions with 'block', and only "
                "with it."
            )
        if (self.fraction is not None) != (self.rotation == "geodesic"):
            raise ValueError(
                f"rotation {self.rotation!r} with fraction={self.fraction}: give fraction with 'geodesic', and only "
                "with it."
            )
        if self.from_scratch and self.model is None:
            raise ValueError("from_scratch=True without a model: name the model that the frozen part is taken from.")
        return self


class BatchNormRecalibrationSpec(_Spec):
    """Measure the statistics of batch norm anew after training.

    Attributes:
        batches: How many batches of training images are averaged; by default all of one epoch.
    """

    kind: Literal["batch_norm_recalibration"] = "batch_norm_recalibration"
    batches: int | None = Field(default=None, ge=1)


InterventionSpec = Annotated[
    PrincipalComponentPenaltySpec
    | ColourJitterSpec
    | InitialiseFromSpec
    | FrozenPrefixSpec
    | RotationSpec
    | BatchNormRecalibrationSpec,
    Field(discriminator="kind"),
]
"""Any of them, told apart by ``kind``."""
