"""What the dominant samples of a model share, in words."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from outcrop.numerics import ClassShares, LogisticAssociation, PermutationTest

SIGNIFICANCE = 0.05
"""Adjusted p-value up to which a statistic or class is named in words."""

LEAST_MEMBERS = 2
"""With one sample, or all but one, nothing can be said of what they share."""

_NAMED_CLASSES = 3


@dataclass(frozen=True)
class KnownSamples:
    """What is known of the samples.

    Attributes:
        names: Of the statistics.
        titles: The same in words.
        units: Of each statistic; empty where unknown.
        values: (statistic, sample).
        labels: (sample,), negative where a sample has none; None where no sample has one.
        classes: Names of the classes.
    """

    names: tuple[str, ...]
    titles: tuple[str, ...]
    units: tuple[str, ...]
    values: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Association:
    """What the members of one block share."""

    members: NDArray[np.bool_]
    test: "PermutationTest"
    adjusted: NDArray[np.float64]
    effect: NDArray[np.float64]
    rank: NDArray[np.int64]
    means: tuple[NDArray[np.float64], NDArray[np.float64]]
    logistic: "LogisticAssociation"
    shares: "ClassShares | None"
    class_adjusted: NDArray[np.float64]


def leading_statistic(samples: KnownSamples, found: Association) -> str:
    """Return the statistic that tells the members best, where that is more than chance; otherwise nothing."""
    first = np.flatnonzero(found.rank == 1)
    if not len(first) or _too_few(found.members) or not found.adjusted[first[0]] <= SIGNIFICANCE:
        return ""
    return samples.names[int(first[0])]


def evidence_text(samples: KnownSamples, found: Association) -> str:
    """Return what the members share, in one line."""
    count, all_samples = int(found.members.sum()), len(found.members)
    few = f"{count:,} of {all_samples:,} samples are dominant"
    if _too_few(found.members):
        return f"{few}: too few on one side to tell what they share"
    return "; ".join([few, *_statistics_in_words(samples, found), *_classes_in_words(samples, found)])


def _too_few(members: NDArray[np.bool_]) -> bool:
    return min(int(members.sum()), int((~members).sum())) < LEAST_MEMBERS


def _statistics_in_words(samples: KnownSamples, found: Association) -> list[str]:
    if not samples.names:
        return ["no statistics are known of them"]
    if np.isnan(found.test.auroc).all():
        return [f"all samples are alike in each of the {len(samples.names)} statistics"]
    row = int(np.flatnonzero(found.rank == 1)[0])
    size = found.effect[row]
    name = samples.names[row].replace("_", " ")
    numbers = ", ".join(
        [
            f"{samples.titles[row]}: {found.means[0][row]:.3g} against {found.means[1][row]:.3g}",
            f"AUROC {found.test.auroc[row]:.3f}",
            *([f"{size:+.1f} standard deviations"] if np.isfinite(size) else []),
            f"adjusted p {found.adjusted[row]:.2g}",
        ]
    )
    if found.adjusted[row] > SIGNIFICANCE:
        said = f"no statistic tells them from the rest, nearest {name} ({numbers})"
    else:
        said = f"they have a {'higher' if found.test.auroc[row] > 0.5 else 'lower'} {name} ({numbers})"
    if np.isnan(found.logistic.auroc):
        return [said]
    together = f"all statistics together reach an AUROC of {found.logistic.auroc:.3f} on samples not seen"
    if not len(found.logistic.null):
        return [said, together]
    return [said, f"{together}, {found.logistic.null.mean():.3f} for samples drawn at random"]


def _classes_in_words(samples: KnownSamples, found: Association) -> list[str]:
    if found.shares is None:
        return ["labels are not known"]
    shares = found.shares
    if len(shares.labels) == 1:
        return [f"all are of the class {class_name(samples, int(shares.labels[0]))}"]
    said = []
    for word, sign in (("more", 1), ("fewer", -1)):
        difference = sign * (shares.of_members - shares.of_rest)
        telling = np.flatnonzero((found.class_adjusted <= SIGNIFICANCE) & (difference > 0))
        telling = telling[np.argsort(-difference[telling], kind="stable")]
        named = [
            f"{class_name(samples, int(shares.labels[row]))} ({shares.of_members[row]:.0%}, of the rest "
            f"{shares.of_rest[row]:.0%})"
            for row in telling[:_NAMED_CLASSES].tolist()
        ]
        if named:
            others = f" and {len(telling) - len(named)} other classes" if len(telling) > len(named) else ""
            said.append(f"{word} of {', '.join(named)}{others}")
    return said or ["no class is more or less frequent among them for certain"]


def class_name(samples: KnownSamples, label: int) -> str:
    """Return the name of a class, or its number where it has none."""
    return samples.classes[label] if label < len(samples.classes) else f"class {label}"
