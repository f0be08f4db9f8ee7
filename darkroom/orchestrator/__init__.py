"""The room that talks to Prefect: an API for runs at hand, and a server with deployments and a worker for every night.

Nothing here imports Prefect before it is needed: the command line must answer `--help` at once.
"""

from __future__ import annotations

import os

# Before Prefect is imported by anybody: neither the client nor the server may tell anyone that darkroom runs.
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

from darkroom.orchestrator.connection import api
from darkroom.orchestrator.serving import serve

__all__ = ["api", "serve"]
