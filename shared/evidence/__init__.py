"""Table of evidence that is fitted on an expert's own training rows; higher = more at home."""

from shared.evidence.rows import Evidence
from shared.registry import Registry

EVIDENCE: Registry[type[Evidence]] = Registry(
    "evidence",
    {
        "energy": "shared.evidence.energy:Energy",
        "max logit": "shared.evidence.max_logit:MaxLogit",
        "mahalanobis": "shared.evidence.mahalanobis:Mahalanobis",
        "relative mahalanobis": "shared.evidence.relative_mahalanobis:RelativeMahalanobis",
        "prototype": "shared.evidence.prototype:Prototype",
        "vim": "shared.evidence.vim:Vim",
    },
)
"""name -> class: ``EVIDENCE[name].fit(own_rows(...)).score(features_ND, logits_NC)``."""
