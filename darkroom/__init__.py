"""The words that all rooms share: errors, schemas, settings, storage, the public API, the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darkroom.api import acknowledge, evaluate, predict, read

__all__ = ["acknowledge", "evaluate", "predict", "read"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # The public functions arrive when they are asked for: `darkroom --help` must not wait for TensorFlow.
    if name in __all__:
        from darkroom import api

        return getattr(api, name)
    raise AttributeError(f"module 'darkroom' has no attribute {name!r}")
