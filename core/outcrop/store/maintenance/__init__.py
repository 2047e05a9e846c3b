"""Keep a study in order: measure it, prune it, copy it in part, merge several into one.

Everything goes through the study's store, so it works on disk and at a URL alike.
"""

from outcrop.store.maintenance.contents import Contents, contents_of
from outcrop.store.maintenance.operations import copy_study, measure_study, merge_studies, prune_study
from outcrop.store.maintenance.planning import Removal, plan_pruning
from outcrop.store.maintenance.pruning import prune
from outcrop.store.maintenance.sizes import PartSize, StudySize, study_size
from outcrop.store.maintenance.transfers import Transfer, transfer

__all__ = [
    "Contents",
    "PartSize",
    "Removal",
    "StudySize",
    "Transfer",
    "contents_of",
    "copy_study",
    "measure_study",
    "merge_studies",
    "plan_pruning",
    "prune",
    "prune_study",
    "study_size",
    "transfer",
]
