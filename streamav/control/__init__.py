"""Changes what a run detects while it runs: the one way for MQTT commands, the HTTP API and a reload of the configuration.

    MQTT command --+                 +--> validated at once, refused with a SettingsError
    HTTP request --+--> Controls ----+
    SIGHUP reload -+                 +--> waits (one plan a source) --> the loop applies it between two turns of the inference
                                          --> written into the state folder --> listeners are told (echo of the value)

A change is a part of the section `detection` of one source, such as `{"classes": {"bark": {"on": 0.7}}}`, merged over its configuration.
So what runs is always the configuration plus the kept changes, and each of them obeys the rules of the settings.

    controls.change("porch", {"enabled": False})           # raises SettingsError; returns the new SourcePlan
    controls.change("porch", {"on": None})                 # None: back to the configuration
    controls.reload({"porch": DetectionSettings(...)})     # a new configuration; the kept changes stay on top of it
    controls.add("yard", DetectionSettings())              # a source that is added or starts again; remove("yard") takes it away
    controls.plan("porch")                                 # what holds now, also what was accepted a moment ago
    controls.differences()                                 # what differs from the configuration
    controls.listen(lambda plan: ...)                      # called on the loop once a plan holds and is stored

It is used by publish and app, and knows no broker, no server and no network.
"""

from __future__ import annotations

from streamav.control.controls import Controls
from streamav.control.kept import Difference, KeptChanges, kept_path
from streamav.control.plan import SourcePlan

__all__ = ["Controls", "Difference", "KeptChanges", "SourcePlan", "kept_path"]
