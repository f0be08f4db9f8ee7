"""The bundle: a sealed, immutable, versioned folder that holds a model and everything learned beside it."""

from __future__ import annotations

from tasks.bundle.manifest import BundleManifest
from tasks.bundle.opening import Bundle, open_bundle
from tasks.bundle.resealing import reseal_bundle
from tasks.bundle.sealing import SealedContents, seal_bundle
from tasks.bundle.signing import Signed, sign_bundle
from tasks.bundle.versions import Remembered, find_bundle, history_of, promote
from tasks.goldens.choosing import choose_goldens
from tasks.goldens.record import Golden
from tasks.goldens.replay import GoldenReplay, replay_goldens

__all__ = [
    "Bundle",
    "BundleManifest",
    "Golden",
    "GoldenReplay",
    "Remembered",
    "SealedContents",
    "Signed",
    "choose_goldens",
    "find_bundle",
    "history_of",
    "open_bundle",
    "promote",
    "replay_goldens",
    "reseal_bundle",
    "seal_bundle",
    "sign_bundle",
]
