"""How many cases a property test tries: as many as it names in a whole run, a part of them in the quick loop."""

from __future__ import annotations

from hypothesis import settings

FEWEST = 4


def cases(most: int) -> settings:
    """Return settings of *most* cases in a whole run; the profile `quick` lowers them in proportion to its own number, to 4 at least."""
    profile: settings = settings()
    return settings(profile, max_examples=min(most, max(FEWEST, most * profile.max_examples // 100)))
