"""The variables of the environment that darkroom looks at or sets; docs/reference/commands.md lists them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

READ: Final = {
    "PREFECT_API_URL": "The server that runs report to, such as http://127.0.0.1:4200/api. Unset: the one of Prefect's "
    "active profile, else a quiet one of the command's own.",
    "PREFECT_API_AUTH_STRING": "The user:password of that server, where it has one. Read by Prefect.",
    "PREFECT_API_SSL_CERT_FILE": "The certificate that vouches for that server, where it is of your own authority. "
    "Read by Prefect.",
    "PREFECT_SERVER_API_AUTH_STRING": "The user:password that `darkroom serve` asks for, at the server and at the "
    "pages. Unset: PREFECT_API_AUTH_STRING, else none, and it listens on this machine alone.",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "Whose pages may ask the server of `darkroom serve` beside its own, "
    "with commas.",
    "PREFECT_HOME": "Where Prefect keeps its database and profiles. Unset: ~/.prefect.",
    "PREFECT_LOGGING_LEVEL": "INFO shows Prefect's own log lines in the terminal.",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "The same, of the terminal only.",
    "PREFECT_SERVER_LOGGING_LEVEL": "How much the server of `darkroom serve` says. Unset: ERROR.",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": "How many nights `darkroom serve` plans ahead. Unset: 14.",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "What the server of `darkroom serve` clears away. Unset: "
    "events,flow_runs.",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "For how many seconds it keeps runs that have ended. Unset: "
    "7776000, which is 90 days.",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "Another database of the server than SQLite, such as "
    "postgresql+asyncpg://…. Read by Prefect.",
    "PREFECT_UI_API_URL": "Where the pages of `darkroom serve` find the server, behind a proxy.",
    "PREFECT_WORKER_QUERY_SECONDS": "How often the worker looks for runs. Read by Prefect.",
    "DARKROOM_REPORTS_URL": "The address of a server of your own that shows the pages: links lead there. "
    "`darkroom serve` sets it for its runs.",
    "DARKROOM_REPORTS_FOLDER": "The folder that this server shows. Unset: the one named reports in the path of a page.",
    "DARKROOM_CORES": "How many cores a worker of a Dask cluster computes with. Unset: as many as it has threads. Set "
    "for the workers that a run starts itself, with OMP_NUM_THREADS and its like: their share.",
    "DARKROOM_TRUSTED_KEYS": "A folder of public keys, or one of them: only a bundle that one of them has signed is "
    "opened. Set by `darkroom --trusted-keys` and by darkroom.toml, for every process of a run. Unset: none must be.",
    "DARKROOM_ROOTS": "The folders and addresses below which a run may read and write, as a list in JSON: "
    '["/srv/parts", "s3://photos/parts"]. Set by `darkroom serve` for its runs, from darkroom.toml. Unset: anywhere.',
    "NO_PROXY": "Hosts that are reached without a proxy; 127.0.0.1 is added while a command runs. So is no_proxy.",
    "XDG_CACHE_HOME": "Where the empty database of the command's own server is kept, what was fetched from an object "
    "store, and models as OpenVINO has compiled them. Unset: ~/.cache.",
    "AWS_…, GOOGLE_…, AZURE_…": "The account of an object store, its region and its address: see Object storage. Read "
    "by the library that speaks with it.",
    "TF_CPP_MIN_LOG_LEVEL": "What TensorFlow says: 3 is nothing, which is set where nobody says otherwise.",
    "PYTHONPATH": "Handed on to the processes that are started.",
}
SET: Final = {
    "DARKROOM_PRIVATE_API": "The address of the command's own server, so that the processes it starts know that nobody "
    "listens there.",
    "DO_NOT_TRACK": "1: nothing is sent to anybody.",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false: nothing is sent to anybody.",
    "GX_ANALYTICS_ENABLED": "false: nothing is sent to anybody.",
}


def cache_folder() -> Path:
    """Of this user: whatever lies in it can be made again, and may be deleted at any time. It may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkroom"
