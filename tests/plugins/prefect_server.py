"""One Prefect server for the whole session."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of our own; this process and those that it starts report to it."""
    from darkroom.orchestrator import api

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # Prefect's imports are not ours to mend.
        warnings.simplefilter("ignore")
        # Neither the server nor the profile of whoever runs the tests.
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
        with api() as address:
            yield address
