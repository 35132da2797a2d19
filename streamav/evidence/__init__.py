"""How strongly each label is heard and seen, from the encoders' own classes. Pure numpy: no engine, no source."""

from __future__ import annotations

from streamav.evidence.definitions import Column, competitors, defined, hidden_entries, model_columns
from streamav.evidence.labels import ARRAYS, CAUTION, LARGEST_LOGIT, MOST_CORRECTED, OWN_ARRAY, EvidenceParts, LabelEvidence
from streamav.evidence.of_bundle import evidence_of, model_evidence
from streamav.evidence.scores import (
    FAINT_HEARD,
    FAINT_SEEN,
    HEARD_FROM,
    HEARD_STEP,
    LEAST_ANSWER,
    LEAST_HEARD,
    LEAST_SEEN,
    MOST_ANSWER,
    MOST_SENSED,
    TWO_VIEWS,
    Sensed,
    View,
    heard_and_seen,
    mean_of_neighbours,
    motion_around,
    neighbourhood,
    network_logits,
    probe_logits,
    tones,
)

__all__ = [
    "ARRAYS",
    "CAUTION",
    "FAINT_HEARD",
    "FAINT_SEEN",
    "HEARD_FROM",
    "HEARD_STEP",
    "LARGEST_LOGIT",
    "LEAST_ANSWER",
    "LEAST_HEARD",
    "LEAST_SEEN",
    "MOST_ANSWER",
    "MOST_CORRECTED",
    "MOST_SENSED",
    "OWN_ARRAY",
    "TWO_VIEWS",
    "Column",
    "EvidenceParts",
    "LabelEvidence",
    "Sensed",
    "View",
    "competitors",
    "defined",
    "evidence_of",
    "heard_and_seen",
    "hidden_entries",
    "mean_of_neighbours",
    "model_columns",
    "model_evidence",
    "motion_around",
    "neighbourhood",
    "network_logits",
    "probe_logits",
    "tones",
]
