"""What runs have left in the Prefect UI, removed from there."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from darkroom.orchestrator.connection import reports_to_a_private_server


def remove_artifacts(runs: Iterable[str], kinds: tuple[str, ...]) -> int | None:
    """Remove the artifacts of these runs that are of these kinds (`night`: key `night-…`); how many there were.

    None: no server is named, or it does not answer; then nobody knows. Done again, it finds what is left.
    """
    wanted = sorted(set(runs))
    if not wanted:
        return 0
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value() or reports_to_a_private_server():
        return None
    removed = 0
    try:
        with get_client(httpx_settings={"timeout": 30}, sync_client=True) as client:
            for run in wanted:
                of_this = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run)]))
                for artifact in client.read_artifacts(artifact_filter=of_this):
                    if (artifact.key or "").partition("-")[0] in kinds:
                        try:
                            client.delete_artifact(artifact.id)
                        except ObjectNotFound:
                            continue  # somebody else was faster
                        removed += 1
    except (httpx.HTTPError, RuntimeError):  # RuntimeError: Prefect's own word for a server that it cannot reach
        return None
    return removed
