"""Models as OpenVINO has compiled them, kept for this user's next process: a night that finds one needs no TensorFlow.

~/.cache/darkroom/compiled/<digest of what it was made of>: a sha256, and the bytes that it is of. A cache, and nothing
more: what is missing or damaged is compiled again, and goldens are replayed on what is loaded as on any engine. It lies
with the user, not beside the bundles, because whoever may write there cannot sign.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from typing import Final

from darkroom.environment import cache_folder
from darkroom.storage import LocalStorage
from tasks import openvino_engine as openvino
from tasks.bundle import Bundle
from tasks.machine import cores, machine_type
from tasks.parity import libraries_of

# Bundles that a machine scores with in turns; with one more, what was not used for longest goes.
KEPT: Final = 8
_FOLDER: Final = "compiled"
_DIGEST: Final = hashlib.sha256().digest_size
_LOG = logging.getLogger(__name__)


def kept_engine(bundle: Bundle) -> openvino.OpenVinoEngine | None:
    """The engine of a bundle that an earlier process has compiled; None: it has to be compiled."""
    try:
        name = _name(bundle)
        data = LocalStorage(cache_folder()).peek(name) or b""
        if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            return None
        os.utime(cache_folder() / name)
        return openvino.from_compiled(data[_DIGEST:], bundle.preprocessing.input_shape)
    except Exception as error:  # whatever is wrong with a cache, there is a way without it
        _LOG.info("A compiled model cannot be used, and is compiled again: %s", error)
        return None


def keep_engine(bundle: Bundle, engine: openvino.OpenVinoEngine) -> None:
    """For `kept_engine` of a later process. Where it cannot be written, that process compiles, too."""
    try:
        data = engine.compiled()
        LocalStorage(cache_folder()).write(_name(bundle), hashlib.sha256(data).digest() + data)
        files = sorted((cache_folder() / _FOLDER).iterdir(), key=lambda file: file.stat().st_mtime)
        for file in files[:-KEPT]:
            file.unlink()
    except Exception as error:
        _LOG.info("A compiled model cannot be kept: %s", error)


def _name(bundle: Bundle) -> str:
    made_of = {
        "model": bundle.manifest.digests[bundle.model_path.name],
        "embedding": bundle.manifest.embedding_layer,
        "shape": bundle.preprocessing.input_shape,
        "libraries": libraries_of(openvino.NAME, openvino.openvino_version()),
        "machine": [machine_type(), cores()],
    }
    return f"{_FOLDER}/{hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()}"
