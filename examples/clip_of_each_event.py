"""Saves a clip and a snapshot of each event of a recording, through the Python API: python examples/clip_of_each_event.py FILE FOLDER.

It does what `streamav run --source FILE --speed max --set clips.dir=FOLDER` does, and prints what was found beside the new files.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from streamav import app
from streamav.config_loading import load_settings
from streamav.errors import StreamavError


def clips_of(file: str, folder: Path) -> list[Path]:
    """Run the model over a recording and return the new clips, in the order of their events."""
    before = set(folder.rglob("*.mp4"))
    settings = load_settings(options={"source": {"uri": file, "speed": "max", "id": "recording"}, "clips": {"dir": str(folder)}})
    summary = asyncio.run(app.run(app.build(settings)))
    print(f"{summary.media_s:.0f} s of media in {summary.wall_s:.1f} s, {summary.events} events")
    return sorted(set(folder.rglob("*.mp4")) - before)


if __name__ == "__main__":
    try:
        for clip in clips_of(sys.argv[1], Path(sys.argv[2])):
            print(clip, clip.with_suffix(".jpg").name)
    except IndexError:
        sys.exit("usage: python examples/clip_of_each_event.py FILE FOLDER")
    except StreamavError as exc:
        sys.exit(f"streamav: {exc}")
