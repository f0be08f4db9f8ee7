"""Who or what started this run, with which code and which parameters: what `darkroom trace` tells later."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from typing import Any

from prefect.context import FlowRunContext
from prefect.runtime import deployment, flow_run
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from darkroom.code import code_commit
from darkroom.person import this_person
from darkroom.summary import Whence


def whence(bundle_path: str | None = None) -> Whence:
    """Of the flow run that this is called in, or in a task of it."""
    context = FlowRunContext.get()
    run = None if context is None else context.flow_run
    of_deployment = run is not None and run.deployment_id is not None
    by_schedule = run is not None and run.auto_scheduled
    return Whence(
        by=this_person(),
        host=platform.node(),
        started="schedule" if by_schedule else "deployment" if of_deployment else "by hand",
        scheduled_for=None if run is None else run.expected_start_time,
        flow_run=flow_run.id,
        flow_run_name=flow_run.name,
        deployment=deployment.name if of_deployment else None,
        tags=tuple(flow_run.tags),
        code=code_commit(),
        bundle_path=bundle_path,
        parameters=dict(_flat(flow_run.parameters)),
    )


def _flat(parameters: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str | int | float | bool | None]]:
    """`{"night": NightOptions(…)}` → `("night.timezone", "UTC"), …`; what is no scalar, as JSON."""
    for name, value in parameters.items():
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else to_jsonable_python(value)
        if isinstance(plain, dict):
            yield from _flat(plain, f"{before}{name}.")
        elif plain is None or isinstance(plain, str | int | float | bool):
            yield f"{before}{name}", plain
        else:
            yield f"{before}{name}", json.dumps(plain)
