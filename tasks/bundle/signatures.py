"""Knows who has signed a bundle: Ed25519 (RFC 8032) over the bytes of bundle.json, which holds all other digests.

<bundle>/signatures/<key>.sig      64 bytes; <key> is the beginning of the sha256 of the public key, as 16 hex

A signature is added to a bundle after its seal, and changes neither its id nor a digest. Several keys may sign.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from darkroom.errors import BundleUntrusted, WrongUse
from darkroom.storage import LocalStorage
from darkroom.trust import trusted_place

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURES: Final = "signatures"
_NAME: Final = re.compile(rf"{SIGNATURES}/[0-9a-f]{{16}}\.sig")
_BYTES: Final = 64
# A key in PEM has a few hundred; whatever else lies there is not read whole.
_LARGEST_KEY: Final = 64 * 1024
_MAKE: Final = "make one: openssl genpkey -algorithm ed25519 -out private.pem"


@dataclass(frozen=True)
class TrustedKey:
    """A public key that is believed. name: that of its file. id: as in the name of its signatures."""

    name: str
    id: str
    key: Ed25519PublicKey

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


def is_signature(name: str) -> bool:
    """Whether this is the name of a signature, in a bundle."""
    return _NAME.fullmatch(name) is not None


def signature_name(key_id: str) -> str:
    """Where in a bundle the signature of a key lies."""
    return f"{SIGNATURES}/{key_id}.sig"


def trusted_keys() -> tuple[TrustedKey, ...] | None:
    """The keys of the policy, by the names of their files; None: a bundle needs no signature.

    Raises: WrongUse where the policy names no place, no key, or something that is none: then nothing is believed.
    """
    place = trusted_place()
    if place is None:
        return None
    files = sorted(place.glob("*.pem")) if place.is_dir() else [place]
    if not files:
        raise WrongUse(
            "Bundles must be signed, and there is no key whose signature would do.",
            file=place,
            expected="public keys of Ed25519, NAME.pem each",
            found="a folder without *.pem",
            todo="put one there: openssl pkey -in private.pem -pubout -out NAME.pem",
        )
    return tuple(_public_key(file) for file in files)


def check_signed(statements: bytes, read: Callable[[str], bytes | None], bundle: object) -> str | None:
    """Who of those that are trusted has signed these bytes of bundle.json; None: nobody has to.

    `read` gives a signature by its name in the bundle, or None. Nothing is parsed.

    Raises: BundleUntrusted where no trusted key has; WrongUse for a policy without keys.
    """
    from cryptography.exceptions import InvalidSignature

    keys = trusted_keys()
    if keys is None:
        return None
    there = [(key, data) for key in keys if (data := read(signature_name(key.id))) is not None]
    for key, data in there:
        try:
            key.key.verify(data, statements)
        except InvalidSignature:
            continue
        return str(key)
    trusted = ", ".join(map(str, keys))
    if there:
        raise BundleUntrusted(
            "The signature does not hold: bundle.json is not what was signed.",
            file=bundle,
            expected=f"a signature of these bytes by {trusted}",
            found=f"another one in {signature_name(there[0][0].id)}",
            todo="restore the bundle from a backup; if it is known to be right, sign it again: darkroom sign",
        )
    raise BundleUntrusted(
        "Bundles must be signed here, and none of the trusted keys has signed this one.",
        file=bundle,
        expected=f"a signature by {trusted}",
        found=_others(bundle),
        todo=f"have it signed: darkroom sign {bundle} --key private.pem; or trust another key: put it in "
        f"{trusted_place()}",
    )


def read_signature(bundle: Path, name: str) -> bytes | None:
    """The bytes of a signature in a folder, no more than one has; None: there is none, or no ordinary file."""
    folder, file = bundle / SIGNATURES, bundle / name
    if folder.is_symlink() or file.is_symlink() or not file.is_file():
        return None
    with file.open("rb") as opened:
        return opened.read(_BYTES + 1)


def sign(bundle: Path, statements: bytes, key_file: Path) -> str:
    """Sign the bytes of a bundle's bundle.json with the private key in a file; the id of the key.

    Raises: WrongUse where the file holds no private key of Ed25519; StorageError.
    """
    key = _private_key(key_file)
    identity = _key_id(key.public_key())
    # Written beside the bundle's folder and renamed into it: whoever opens it meanwhile sees no half of a file.
    storage = LocalStorage(bundle.parent)
    storage.write(f"{bundle.name}/{signature_name(identity)}", key.sign(statements))
    return identity


def keep_signatures(bundle: Path, signatures: Mapping[str, bytes]) -> None:
    """Signatures that were fetched with a bundle, by their names in it."""
    for name, data in signatures.items():
        if read_signature(bundle, name) != data:
            LocalStorage(bundle.parent).write(f"{bundle.name}/{name}", data)


def _others(bundle: object) -> str:
    folder = Path(str(bundle))
    if not folder.is_dir():
        return "none of theirs"  # of what others there may be, an object store is not asked
    names = sorted(file.stem for file in folder.glob(signature_name("*")))
    return f"signatures by the keys {', '.join(names)[:200]}" if names else "no signature"


def _public_key(file: Path) -> TrustedKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _key_bytes(file)
    if b"PRIVATE KEY" in data:
        raise WrongUse(
            "This is a private key, which nobody but its owner may have: whoever opens bundles needs the public one.",
            file=file,
            todo="keep it elsewhere, and put its public key here: openssl pkey -in private.pem -pubout -out NAME.pem",
        )
    try:
        key = load_pem_public_key(data)
    except Exception as error:  # the library raises several types, also one of its own for what it does not know
        raise _no_key(file, "public", str(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(file, "public", f"a {type(key).__name__.strip('_')}")
    return TrustedKey(file.stem, _key_id(key), key)


def _private_key(file: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _key_bytes(file)
    password = getpass(f"Passphrase of {file}: ").encode() if b"ENCRYPTED" in data else None
    try:
        key: Any = load_pem_private_key(data, password)
    except Exception as error:
        raise _no_key(file, "private", str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(file, "private", f"a {type(key).__name__.strip('_')}")
    return key


def _key_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_LARGEST_KEY)
    except OSError as error:
        raise WrongUse(
            "The key cannot be read.",
            file=file,
            expected="a file with a key of Ed25519, or a folder of public ones",
            found=os.strerror(error.errno) if error.errno else str(error),
            todo=_MAKE,
        ) from error


def _no_key(file: Path, kind: str, found: str) -> WrongUse:
    return WrongUse(
        f"This is no {kind} key that darkroom takes.",
        file=file,
        expected=f"a {kind} key of Ed25519 in PEM",
        found=found.splitlines()[0][:200] if found else None,
        todo=_MAKE,
    )


def _key_id(key: Ed25519PublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]
