"""Says what to do about the states of a source."""

from __future__ import annotations

from streamav.types import SourceState, has_failed

__all__ = ["remedy"]

_BY_STATE = {
    SourceState.STARTING: "Wait: nothing has arrived yet.",
    SourceState.WARMING_UP: "Wait: the first scores come after two seconds, and are provisional until ten seconds have arrived.",
    SourceState.ONLINE: "",
    SourceState.DEGRADED: "Check that sound and picture reach this machine.",
    SourceState.LOST: "Check its power, its cable or network, and its address. streamav tries again by itself.",
    SourceState.DISABLED: "Switch the source on again to get events.",
}
_FAILED = "It is not tried again in this run: correct what the reason names, then start the run again."
_BY_WORD = (
    ("the machine is behind", "The machine cannot keep up: close other programs, use fewer sources, or set model.frames_per_second lower."),
    ("no sound for", "Check that the microphone is plugged in and not muted (streamav devices lists it), or that the stream has sound."),
    ("no picture for", "Check that the camera is plugged in, not covered and not used by another program (streamav devices lists it)."),
)
"""Words of a reason (pipeline.stages) and what they call for; the first that matches counts."""


def remedy(state: SourceState, reason: str) -> str:
    """Return what to do about the state of a source, one or two sentences; empty when there is nothing to do."""
    if state is SourceState.DEGRADED:
        return next((words for word, words in _BY_WORD if word in reason), _BY_STATE[state])
    return _FAILED if has_failed(state, reason) else _BY_STATE[state]
