"""The records that cross a border between two parts of freezecheck.

No torch and no click here: whoever holds these records can judge and render them without importing either. One
table of facts per tensor (`Facts`) is the heart; `verify`, `run` and the callbacks differ only in how they fill it.
"""

from .case import Case, Facts, LayerFacts
from .comparison import Change, Comparison, Stored
from .judgement import Ending, Finding, Hit, Report, Rule
from .model import Description, Layer, StrayFlag, Tensor
from .plan import Contradiction, Counts, Overlap, Plan, Rows, Selector, Unmatched
from .seen import (
    Conditions,
    Cut,
    Foreign,
    Hidden,
    Leaf,
    Loss,
    Membership,
    NonFinite,
    Observation,
    Phase,
    RowsSeen,
    Skipped,
    Update,
    Write,
)
from .words import Expected, Gradient, Json, Location, Need, Severity

__all__ = [
    "Case",
    "Change",
    "Comparison",
    "Conditions",
    "Contradiction",
    "Counts",
    "Cut",
    "Description",
    "Ending",
    "Expected",
    "Facts",
    "Finding",
    "Foreign",
    "Gradient",
    "Hidden",
    "Hit",
    "Json",
    "Layer",
    "LayerFacts",
    "Leaf",
    "Location",
    "Loss",
    "Membership",
    "Need",
    "NonFinite",
    "Observation",
    "Overlap",
    "Phase",
    "Plan",
    "Report",
    "Rows",
    "RowsSeen",
    "Rule",
    "Selector",
    "Severity",
    "Skipped",
    "Stored",
    "StrayFlag",
    "Tensor",
    "Unmatched",
    "Update",
    "Write",
]
