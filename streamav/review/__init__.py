"""What a viewer of the live page may ask and say: why, what if, a clip, right or wrong, other thresholds and zones."""

from __future__ import annotations

from streamav.review.broker import broker_state
from streamav.review.desk import Answers, Desk, RefusedError
from streamav.review.routes import review_routes
from streamav.review.saved import Reviewed

__all__ = ["Answers", "Desk", "RefusedError", "Reviewed", "broker_state", "review_routes"]
