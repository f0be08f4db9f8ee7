"""Prove a bundle on demand: every digest, then every golden from bytes to probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic.json_schema import SkipJsonSchema

from darkroom.forms import optional, titled
from darkroom.settings import EngineName
from flows.engines import check_comparison, prove_parity
from flows.looking import Proof
from flows.naming import named
from flows.parameters import BundlePath, a_folder
from flows.score import prove_bundle
from tasks.bundle import find_bundle, open_bundle


@flow(name="verify", flow_run_name=named("{bundle}"))
def verify(
    bundle: BundlePath,
    engine: Annotated[EngineName, titled("Engine")] = "auto",
    data: Annotated[Path | SkipJsonSchema[None], optional("Photos", a_folder)] = None,
) -> Proof:
    """Prove a bundle: every digest, then every golden image from bytes to pixels to tensor to probabilities.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
        engine: What computes the network; openvino is compared with keras first, and may be used from then on.
        data: Folder that the bundle was trained on, to compare the engines on its held-out photos, too. Empty: without.

    """
    check_comparison(engine, data)
    if engine == "openvino":
        get_run_logger().info(prove_parity(open_bundle(find_bundle(bundle)), data).as_text())
    return prove_bundle(bundle, engine)
