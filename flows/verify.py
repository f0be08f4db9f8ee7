"""Prove a bundle on demand: every digest, then every golden from bytes to probabilities."""

from __future__ import annotations

from prefect import flow

from flows.looking import Proof
from flows.naming import named
from flows.parameters import BundlePath
from flows.score import prove_bundle


@flow(name="verify", flow_run_name=named("{bundle}"))
def verify(bundle: BundlePath) -> Proof:
    """Prove a bundle: every digest, then every golden image from bytes to pixels to tensor to probabilities.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.

    """
    return prove_bundle(bundle)
