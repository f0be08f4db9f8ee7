"""A look at images that takes no time: the first is real, and all others are given its row under their own names.

Dask preloads this module into the workers of benchmarks.shards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_known: Any = None


def look(jobs: Sequence[Any], *known: Any, told: Callable[..., None], **options: Any) -> Any:
    """Stands where flows.shards has flows.looking.look; one job at a time."""
    global _known
    from flows import looking

    if _known is None:
        _known = looking.look(jobs, *known, told=told, **options)
        return _known
    (job,) = jobs
    told(1, ())
    rows = _known.rows.assign(content_id=job.content_id, path=str(job.key))
    return looking.Looked(rows, _known.outcome, [])


def dask_setup(_: object) -> None:
    """What Dask calls in each worker."""
    from flows import shards

    shards.look = look  # type: ignore[attr-defined]
