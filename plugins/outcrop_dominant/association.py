"""What the dominant samples of each model share: statistics and classes that tell them from the rest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from outcrop.errors import AnalysisError
from outcrop_dominant.association_text import (
    SIGNIFICANCE,
    Association,
    KnownSamples,
    class_name,
    evidence_text,
    leading_statistic,
)

if TYPE_CHECKING:
    import xarray as xr

    from outcrop import Context
    from outcrop.analysis.references import Reference
    from outcrop_dominant.parameters import DominantParameters

FOLDS = 5

_NULL_END = 95


def association_dataset(
    context: "Context",
    references: "Sequence[Reference]",
    members: Bool[np.ndarray, "block sample"],
    parameters: "DominantParameters",
) -> "xr.Dataset | None":
    """Return what the dominant samples of each model share, of kind ``association``; None where nothing is known.

    The paper sees that they share a background colour or dark spots (arXiv 2202.07184, section 4). Here every
    statistic of the samples is put to the question: how well it alone tells the dominant ones (AUROC, with a
    permutation p-value, adjusted for the number of statistics), by how many standard deviations they differ, and how
    well all statistics together predict samples that the fit has not seen, beside as many samples drawn at random.
    Where samples have labels, classes are counted too. Models stand side by side along ``block``, so that seeds
    compare: one may have blue samples and another white ones.

    Statistics that have one value everywhere, as colours have in grey pictures, are NaN and not counted among the
    tests. A difference says what the dominant samples look like, not that it is the cause: that is what stimuli show.

    Args:
        context: Its ``described`` is asked for statistics and labels.
        references: Where each model is judged, one a block.
        members: Which samples are dominant, of all samples in the order of the data.
        parameters: ``permutations`` and ``logistic_permutations`` of them.

    Raises:
        AnalysisError: Members that are not one per sample and block, or another number of samples is described.
    """
    if members.shape != (len(references), context.sample_count):
        raise AnalysisError(
            f"The dominant samples have shape {members.shape}; expected one truth value for each of "
            f"{len(references)} blocks and {context.sample_count} samples."
        )
    described = context.described()
    if described is None or not references:
        return None
    samples = _known(described)
    if not samples.names and samples.labels is None:
        return None
    if samples.values.shape[1] != context.sample_count:
        raise AnalysisError(
            f"Statistics are known of {samples.values.shape[1]} samples and activations of {context.sample_count}; "
            "give the data that the activations are of."
        )
    found = [_associate(samples, own, parameters, context.seed) for own in members]
    return _dataset(references, samples, found, parameters)


def _known(described: "xr.Dataset") -> KnownSamples:
    """Return the statistics and labels among what is known of the samples."""
    chosen = {
        str(name): array
        for name, array in described.data_vars.items()
        if array.dims == ("sample",) and array.dtype.kind == "f"
    }
    labels = described["label"].values.astype(np.int64) if "label" in described else None
    if labels is not None and not (labels >= 0).any():
        labels = None
    values = [array.values.astype(np.float64) for array in chosen.values()]
    return KnownSamples(
        names=tuple(chosen),
        titles=tuple(str(array.attrs.get("long_name", name)) for name, array in chosen.items()),
        units=tuple(str(array.attrs.get("units", "")) for array in chosen.values()),
        values=np.array(values).reshape(len(chosen), described.sizes["sample"]),
        labels=labels,
        classes=tuple(str(name) for name in described.attrs.get("classes", ())),
    )


def _associate(
    samples: KnownSamples, members: NDArray[np.bool_], parameters: "DominantParameters", seed: int
) -> Association:
    from outcrop.numerics import (
        adjusted_p_values,
        class_shares,
        group_means,
        logistic_association,
        permutation_test,
        standardised_effect,
        strength_ranks,
    )

    test = permutation_test(samples.values, members, permutations=parameters.permutations, seed=seed)
    effect = standardised_effect(samples.values, members)
    shares = None if samples.labels is None else class_shares(samples.labels, members)
    return Association(
        members=members,
        test=test,
        adjusted=adjusted_p_values(test.p_value),
        effect=effect,
        rank=strength_ranks(test.auroc, effect),
        means=group_means(samples.values, members),
        logistic=logistic_association(
            samples.values, members, folds=FOLDS, permutations=parameters.logistic_permutations, seed=seed
        ),
        shares=shares,
        class_adjusted=np.empty(0) if shares is None else adjusted_p_values(shares.p_value),
    )


def _dataset(
    references: "Sequence[Reference]",
    samples: KnownSamples,
    found: Sequence[Association],
    parameters: "DominantParameters",
) -> "xr.Dataset":
    import xarray as xr

    def text(values: Sequence[str]) -> NDArray[np.object_]:
        return np.array(list(values), dtype=np.dtypes.StringDType())

    each, block = ("block", "statistic"), ("block",)
    variables = {
        "block_model": (block, text([one.model for one in references])),
        "first_layer": (block, text([one.layers[0] for one in references])),
        "last_layer": (block, text([one.layers[-1] for one in references])),
        "reference_layer": (block, text([one.layer for one in references])),
        "is_block": (block, np.array([one.is_block for one in references], dtype=bool)),
        "member_count": (block, np.array([one.members.sum() for one in found], dtype=np.int64)),
        "leading_statistic": (block, text([leading_statistic(samples, one) for one in found])),
        "evidence": (block, text([evidence_text(samples, one) for one in found])),
        "auroc": (each, np.array([one.test.auroc for one in found])),
        "effect": (each, np.array([one.effect for one in found])),
        "p_value": (each, np.array([one.test.p_value for one in found])),
        "adjusted_p": (each, np.array([one.adjusted for one in found])),
        "familywise_p": (each, np.array([one.test.familywise_p for one in found])),
        "coefficient": (each, np.array([one.logistic.coefficients for one in found])),
        "rank": (each, np.array([one.rank for one in found])),
        "mean_dominant": (each, np.array([one.means[0] for one in found])),
        "mean_rest": (each, np.array([one.means[1] for one in found])),
        "logistic_auroc": (block, np.array([one.logistic.auroc for one in found])),
        "logistic_standard_error": (block, np.array([one.logistic.standard_error for one in found])),
        "logistic_null": (block, np.array([_mean(one.logistic.null) for one in found])),
        "logistic_null_high": (block, np.array([_upper(one.logistic.null) for one in found])),
        "logistic_p_value": (block, np.array([one.logistic.p_value for one in found])),
    }
    coords = {
        "statistic": text(samples.names),
        "statistic_title": ("statistic", text(samples.titles)),
        "statistic_units": ("statistic", text(samples.units)),
    }
    shares = [one.shares for one in found if one.shares is not None]
    if shares:
        of_class = ("block", "class_name")
        coords["class_name"] = text([class_name(samples, label) for label in shares[0].labels.tolist()])
        variables["class_share_dominant"] = (of_class, np.array([one.of_members for one in shares]))
        variables["class_share_rest"] = (of_class, np.array([one.of_rest for one in shares]))
        variables["class_p_value"] = (of_class, np.array([one.p_value for one in shares]))
        variables["class_adjusted_p"] = (of_class, np.array([one.class_adjusted for one in found]))
    settings = {
        "kind": "association",
        "kind_version": "1.0",
        "sample_count": samples.values.shape[1],
        "permutations": parameters.permutations,
        "logistic_permutations": parameters.logistic_permutations,
        "folds": FOLDS,
        "significance": SIGNIFICANCE,
    }
    return xr.Dataset(variables, coords, settings)


def _mean(null: NDArray[np.float64]) -> float:
    return float(null.mean()) if len(null) else np.nan


def _upper(null: NDArray[np.float64]) -> float:
    return float(np.percentile(null, _NULL_END)) if len(null) else np.nan
