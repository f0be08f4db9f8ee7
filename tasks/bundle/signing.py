"""Knows how a bundle is signed: only as it was sealed, and by the owner of a private key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from darkroom.errors import WrongUse
from darkroom.storage import store_address
from tasks.bundle.manifest import MANIFEST
from tasks.bundle.opening import open_bundle
from tasks.bundle.signatures import sign, signature_name
from tasks.bundle.versions import find_bundle


@dataclass(frozen=True)
class Signed:
    """A signature that was added to a bundle. key: as in the name of its file."""

    bundle_id: str
    key: str
    file: Path


def sign_bundle(bundle: Path, key: Path) -> Signed:
    """Sign a bundle (its folder, or models/NAME for the version in use) with the private key in a file.

    Raises: BundleUnreadable, BundleTampered where it is not as it was sealed; WrongUse where the file holds no private
    key of Ed25519, or the bundle lies in an object store; StorageError.
    """
    address = store_address(bundle)
    if address is not None:
        raise WrongUse(
            "A bundle is signed on a disk.",
            file=address,
            todo="sign the bundle that this is a copy of, and copy it again",
        )
    opened = open_bundle(find_bundle(bundle, unsigned=True), unsigned=True)
    identity = sign(opened.path, (opened.path / MANIFEST).read_bytes(), key)
    return Signed(opened.id, identity, opened.path / signature_name(identity))
