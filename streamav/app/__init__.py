"""Builds a run from its settings, and runs it."""

from __future__ import annotations

from streamav.app.build import Application, build, check_model, localizer_head
from streamav.app.detection import PlanMaker, chosen_labels, label_options, source_controls
from streamav.app.exchange import SourceExchange
from streamav.app.membership import ChangingSources, Membership
from streamav.app.reload import Reload, has_terminal
from streamav.app.signals import hold_hangups, run

__all__ = [
    "Application",
    "ChangingSources",
    "Membership",
    "PlanMaker",
    "Reload",
    "SourceExchange",
    "build",
    "check_model",
    "chosen_labels",
    "has_terminal",
    "hold_hangups",
    "label_options",
    "localizer_head",
    "run",
    "source_controls",
]
