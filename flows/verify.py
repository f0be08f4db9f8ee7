"""Prove a bundle on demand: every digest, then every golden from bytes to probabilities."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from pydantic import BaseModel, ConfigDict

from tasks.bundle import Bundle, find_bundle, open_bundle
from tasks.goldens import replay_goldens
from tasks.inference import Engine, load_engine


class Proof(BaseModel):
    """A bundle that holds, and by how much its goldens differ from the sealed ones."""

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    path: str
    goldens: int
    max_probability_difference: float
    engine: str
    seconds: float

    def as_text(self) -> str:
        """For a person."""
        return (
            f"{self.bundle_id} holds: every digest, and {self.goldens} golden images with equal pixels and tensors; "
            f"probabilities differ by at most {self.max_probability_difference:.1e} ({self.engine}, {self.seconds:.1f} s)."
        )


def open_and_prove(path: Path) -> tuple[Bundle, Engine, Proof]:
    """Open a bundle and replay its goldens; what comes back may score."""
    bundle = open_bundle(find_bundle(path))
    engine = load_engine(bundle.model_path, bundle.manifest.embedding_layer)
    replay = replay_goldens(bundle, engine)
    proof = Proof(
        bundle_id=bundle.id,
        path=str(bundle.path),
        goldens=replay.n,
        max_probability_difference=replay.max_probability_difference,
        engine=engine.name,
        seconds=replay.seconds,
    )
    return bundle, engine, proof


def prove(bundle: Path) -> Proof:
    """Every digest, then every golden.

    Raises: BundleUnreadable, BundleTampered, GoldenMismatch.
    """
    return open_and_prove(bundle)[2]


@task(name="prove the bundle")
def prove_bundle(bundle: Path) -> Proof:
    """Digests, then golden images; nothing is scored by a bundle that fails."""
    return prove(bundle)


@flow(name="verify", flow_run_name="verify {bundle}")
def verify(bundle: Path) -> Proof:
    """Prove a bundle: every digest, then every golden image from bytes to pixels to tensor to probabilities.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
    """
    return prove_bundle(bundle)
