"""Runs the sources of one configuration on the machines of a Ray cluster, one worker a node or GPU, with the pipeline of a single machine.

Ray starts the workers, watches the nodes and carries the calls. This package decides which worker runs which source (placement), and
who may publish for it (lease).
"""

from __future__ import annotations
