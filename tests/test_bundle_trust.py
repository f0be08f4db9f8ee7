"""What a bundle may not do, whoever made it: each attack is refused by its name, and nothing of it is carried out."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from darkroom.cli import app
from darkroom.errors import (
    BundleTampered,
    BundleUnreadable,
    BundleUntrusted,
    DarkroomError,
    UnsupportedModel,
    WrongUse,
)
from darkroom.orchestrator.deployments import _job
from darkroom.project import Project
from darkroom.trust import TRUSTED_KEYS, trusting
from expectations.outliers import NearestNeighbours
from expectations.suite import LearnedSuite
from flows.looking import Proof, predict_files, prove
from flows.night_process import _environment
from flows.parameters import needs_no_signature
from flows.shards import lacks_bundle
from tasks.bundle import Bundle, SealedContents, find_bundle, open_bundle, promote, seal_bundle, sign_bundle
from tasks.bundle import statements as reading
from tasks.bundle.manifest import SCHEMA_VERSION, BundleManifest, bundle_id, file_digest
from tasks.bundle.statements import LARGEST, MIGRATIONS, believed
from tasks.consent import code_in
from tasks.inference import load_engine
from tests.tiny import in_new_process

pytest_plugins = ["tests.plugins.tiny_bundle"]

MANIFESTS = Path(__file__).parent / "manifests"
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(autouse=True)
def _no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRUSTED_KEYS, raising=False)


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy"))


def consistently(bundle: Path, **changes: Any) -> None:
    """What bundle.json says is changed, with an id that follows: all that somebody without a key can do."""
    statements = json.loads((bundle / "bundle.json").read_text()) | changes
    (bundle / "bundle.json").write_text(json.dumps(statements | {"id": bundle_id(statements)}))


def put(bundle: Path, name: str, data: bytes) -> None:
    """A file of the bundle is replaced, or added, and every digest holds."""
    (bundle / name).write_bytes(data)
    digests = json.loads((bundle / "bundle.json").read_text())["digests"]
    consistently(bundle, digests=digests | {name: file_digest(bundle / name)})


# -- the folder and bundle.json


def text(content: str) -> Callable[[Path], object]:
    return lambda bundle: (bundle / "bundle.json").write_text(content)


def naming(name: str) -> Callable[[Path], object]:
    def change(bundle: Path) -> None:
        digests = json.loads((bundle / "bundle.json").read_text())["digests"]
        consistently(bundle, digests=digests | {name: "0" * 64})

    return change


def without(name: str) -> Callable[[Path], object]:
    def change(bundle: Path) -> None:
        digests = json.loads((bundle / "bundle.json").read_text())["digests"]
        consistently(bundle, digests={key: digest for key, digest in digests.items() if key != name})
        (bundle / name).unlink()

    return change


def linked(name: str) -> Callable[[Path], object]:
    def change(bundle: Path) -> None:
        moved = (bundle / name).rename(bundle.parent / "elsewhere")
        (bundle / name).symlink_to(moved)

    return change


def pipe(name: str) -> Callable[[Path], object]:
    def change(bundle: Path) -> None:
        (bundle / name).unlink()
        os.mkfifo(bundle / name)

    return change


def beside(name: str) -> Callable[[Path], object]:
    def change(bundle: Path) -> None:
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_bytes(b"import os")

    return change


STATED = '{"schema_version": 1, "id": "x", "metrics": %s}'
OUTSIDE = (BundleTampered, "names what cannot be part of a bundle")
FOLDERS = {
    "JSON a million brackets deep": (text(STATED % ("[" * 1_000_000)), BundleUnreadable, "nested too deeply"),
    "JSON of gigabytes": (lambda b: os.truncate(b / "bundle.json", LARGEST * 40), BundleUnreadable, "at most"),
    "a number that is none": (text(STATED % "NaN"), BundleUnreadable, "NaN is no number"),
    "a number without end": (text(STATED % "1e999"), BundleUnreadable, "no JSON that a seal writes"),
    "half of a pair of surrogates": (text(STATED % r'"\ud800"'), BundleUnreadable, "no JSON that a seal writes"),
    "a schema that is no number": (lambda b: consistently(b, schema_version=True), BundleUnreadable, "schema version"),
    "a schema of no darkroom": (lambda b: consistently(b, schema_version=0), BundleUnreadable, "No darkroom has ever"),
    "a newer schema": (lambda b: consistently(b, schema_version=2), BundleUnreadable, "update darkroom"),
    "a name that leads out": (naming("../outside"), *OUTSIDE),
    "a name that leads out and back": (naming("goldens/../../copy/model.keras"), *OUTSIDE),
    "an absolute name": (naming("/etc/passwd"), *OUTSIDE),
    "a second spelling of a name": (naming("./model.keras"), *OUTSIDE),
    "a name that ends early": (naming("model.keras\0.txt"), *OUTSIDE),
    "a digest of itself": (naming("bundle.json"), *OUTSIDE),
    "a signature that is sealed": (naming("signatures/0123456789abcdef.sig"), *OUTSIDE),
    "a bundle named as a path": (lambda b: consistently(b, name="../../outside"), *OUTSIDE),
    "no preprocessing": (without("preprocessing.json"), BundleUnreadable, "does not name"),
    "no model": (without("model.keras"), BundleUnreadable, "does not name"),
    "bundle.json is a link": (linked("bundle.json"), BundleTampered, "replaced by a link"),
    "a folder is a link": (linked("goldens"), BundleTampered, "replaced by a link"),
    "bundle.json is a pipe": (pipe("bundle.json"), BundleUnreadable, "no ordinary file"),
    "the model is a pipe": (pipe("model.keras"), BundleTampered, "something that is no file"),
    "code beside": (beside("sitecustomize.py"), BundleTampered, "not sealed in it"),
    "code among the signatures": (beside("signatures/0123456789abcdef.py"), BundleTampered, "not sealed in it"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("change", "kind", "says"), FOLDERS.values(), ids=FOLDERS.keys())
def test_a_folder_that_no_seal_leaves_is_refused(
    copy: Path, change: Callable[[Path], object], kind: type[DarkroomError], says: str
) -> None:
    change(copy)
    with pytest.raises(kind, match=says) as refused:
        open_bundle(copy)
    assert refused.value.todo
    assert refused.value.file
    assert len(str(refused.value)) < 2000


# -- files whose digest holds, made by a stranger


class Runs:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def pickled(path: Path) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.asarray([Runs(path)], dtype=object), allow_pickle=True)
    return sink.getvalue()


def array_that_says(shape: tuple[int, ...]) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(sink, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return sink.getvalue()


STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def zipped(parts: dict[str, bytes], how: int = STORED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", how) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return sink.getvalue()


def suite(kind: str = "expect_column_values_to_be_between", **kwargs: Any) -> bytes:
    one = {
        "type": kind,
        "kwargs": {"column": "luminance_mean", "min_value": 0, "max_value": 1, **kwargs},
        "meta": {"id": "luminance_mean:unexpected", "level": "row", "sentence": "light"},
        "severity": "warning",
    }
    return json.dumps({"suite": {"expectations": [one]}, "mostly": {"10": {}}, "usual": {}}).encode()


def neighbours(bundle: Bundle) -> object:
    return bundle.understood(lambda read: NearestNeighbours.from_bytes(read("neighbours.npz")))


def learned(bundle: Bundle) -> object:
    return bundle.understood(lambda read: LearnedSuite.from_json(read("suite.json").decode()))


TOUCH = "@pd.io.common.os.system('touch {}') == 0"
FILES = {
    "a pickle as embeddings": ("embeddings.npy", pickled, Bundle.embeddings, "allow_pickle"),
    "a pickle among arrays": ("neighbours.npz", lambda p: zipped({"bank.npy": pickled(p)}), neighbours, "allow_pickle"),
    "arrays that are a bomb": (
        "neighbours.npz",
        lambda p: zipped({"bank.npy": bytes(50_000_000)}, DEFLATED),
        neighbours,
        "would unpack to 50,000,000",
    ),
    "an array of a petabyte": (
        "embeddings.npy",
        lambda p: array_that_says((10**15,)),
        Bundle.embeddings,
        "embeddings.npy is as it was sealed, and not",
    ),
    "a row condition, which is Python": (
        "suite.json",
        lambda p: suite(row_condition=TOUCH.format(p), condition_parser="pandas"),
        learned,
        "condition_parser, row_condition",
    ),
    "an expectation in SQL": (
        "suite.json",
        lambda p: suite("unexpected_rows_expectation", unexpected_rows_query="SELECT 1"),
        learned,
        "never learned",
    ),
    "a parameter that is an expression": (
        "suite.json",
        lambda p: suite(min_value={"$PARAMETER": "now() - 1"}),
        learned,
        "never learned",
    ),
    "deep JSON": ("drift.json", lambda p: b"[" * 100_000, lambda b: b.read_json("drift.json"), "drift.json is as"),
    "a profile that is a pickle": ("profile.parquet", lambda p: pickle.dumps(Runs(p)), Bundle.profile, "Parquet"),
    "a record of goldens that is none": ("goldens/goldens.parquet", lambda p: b"PAR1PAR1", Bundle.goldens, "goldens"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "data", "read", "says"), FILES.values(), ids=FILES.keys())
def test_a_file_of_a_stranger_whose_digest_holds_runs_nothing(
    copy: Path, tmp_path: Path, name: str, data: Callable[[Path], bytes], read: Callable[[Bundle], object], says: str
) -> None:
    put(copy, name, data(tmp_path / "it ran"))
    opened = open_bundle(copy)
    with pytest.raises(BundleUnreadable, match=says) as refused:
        read(opened)
    assert str(refused.value.file) == str(copy / name)
    assert not (tmp_path / "it ran").exists()


def test_what_is_refused_does_run_where_nobody_looks(tmp_path: Path) -> None:
    """The row condition is no fear: without the look, Great Expectations carries it out."""
    import pandas as pd

    from expectations.validation import _run

    stated = json.loads(suite(row_condition=TOUCH.format(tmp_path / "ran"), condition_parser="pandas"))
    _run(stated["suite"]["expectations"], pd.DataFrame({"luminance_mean": [0.1, 0.2]}), {})
    assert (tmp_path / "ran").exists()


def test_a_bundle_with_a_suite_that_would_run_code_is_not_proved(copy: Path, tmp_path: Path) -> None:
    put(copy, "suite.json", suite(row_condition=TOUCH.format(tmp_path / "it ran"), condition_parser="pandas"))
    with pytest.raises(BundleUnreadable, match=r"suite\.json is as it was sealed, and not what a darkroom seals"):
        prove(copy)
    assert not (tmp_path / "it ran").exists()


# -- the model


def model(
    config: Callable[[dict[str, Any]], object] = lambda config: None,
    weights: Callable[[Any], object] | None = None,
    more: dict[str, bytes] | None = None,
    how: int = STORED,
) -> Callable[[Path, Path], bytes]:
    """The sealed model, with another configuration, other weights, or more files in its archive."""

    def make(sealed: Path, it_ran: Path) -> bytes:
        with zipfile.ZipFile(sealed) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        stated = json.loads(parts["config.json"])
        config(stated)
        parts["config.json"] = json.dumps(stated).replace('"NESTED"', "[" * 100_000).encode()
        if weights is not None:
            import h5py

            sink = io.BytesIO(parts["model.weights.h5"])
            with h5py.File(sink, "r+") as file:
                weights(file)
            parts["model.weights.h5"] = sink.getvalue()
        return zipped(parts | (more or {}), how)

    return make


def layer(kind: str, module: str = "keras.layers", **config: Any) -> Callable[[dict[str, Any]], None]:
    def insert(stated: dict[str, Any]) -> None:
        one = {"module": module, "class_name": kind, "config": config, "registered_name": None}
        stated["config"]["layers"].insert(1, one)

    return insert


def function(module: str, name: str) -> Callable[[dict[str, Any]], None]:
    def insert(stated: dict[str, Any]) -> None:
        one = {"module": module, "class_name": "function", "config": name, "registered_name": name}
        stated["config"]["layers"].insert(1, one)

    return insert


def nested(stated: dict[str, Any]) -> None:
    stated["config"]["layers"].insert(1, "NESTED")


LAST = "layers/dense_1/vars/0"


def external(file: Any) -> None:
    import h5py

    del file[LAST]
    file[LAST] = h5py.ExternalLink("/etc/passwd", "x")


def virtual(file: Any) -> None:
    import h5py

    shape = file[LAST].shape
    layout = h5py.VirtualLayout(shape=shape, dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=shape)
    del file[LAST]
    file.create_virtual_dataset(LAST, layout)


def external_bytes(file: Any) -> None:
    shape = file[LAST].shape
    del file[LAST]
    file.create_dataset(LAST, shape, "f4", external=[("/etc/passwd", 0, 1000)])


def large(file: Any) -> None:
    del file[LAST]
    file.create_dataset(LAST, (1 << 33, 4), "f4", chunks=(1024, 4), compression="gzip")


def looping(file: Any) -> None:
    file["layers/again"] = file["layers"]
    external(file)


CODE = "code that would run"
NOT_KERAS = "not one that Keras writes"
MODELS = {
    "a Lambda": (model(layer("Lambda", name="l", function={"class_name": "__lambda__"})), "a Lambda layer"),
    "a layer that loads a SavedModel": (model(layer("TFSMLayer", name="l", filepath="/tmp")), CODE),
    "a layer of another library": (model(layer("TorchModuleWrapper", name="l", module="x")), CODE),
    "a vocabulary that is any file": (model(layer("StringLookup", name="l", vocabulary="/etc/passwd")), CODE),
    "a class of another module": (model(layer("Popen", "subprocess", name="l", args="true")), "'Popen' of the module"),
    "a function of another module": (model(function("os", "system")), "'system' of the module 'os'"),
    "a function that ends safe mode": (model(function("keras.config", "enable_unsafe_deserialization")), CODE),
    "a function that fetches": (model(function("keras.utils", "get_file")), CODE),
    "layers nested without end": (model(nested), NOT_KERAS),
    "a file that leads out": (model(more={"../../outside": b"x"}), NOT_KERAS),
    "an asset": (model(more={"assets/../../../outside": b"x"}), NOT_KERAS),
    "an archive that is a bomb": (model(more={"metadata.json": bytes(80_000_000)}, how=DEFLATED), "unpack to"),
    "weights behind a link": (model(weights=external), "/etc/passwd"),
    "weights behind a link in a circle": (model(weights=looping), "/etc/passwd"),
    "weights in another file's arrays": (model(weights=virtual), "/etc/passwd"),
    "weights that are bytes of another file": (model(weights=external_bytes), "/etc/passwd"),
    "weights that are a bomb": (model(weights=large), "137,438,9"),
    "a pickle": (lambda sealed, it_ran: pickle.dumps(Runs(it_ran)), "not a model in the .keras format"),
    "an archive with a pickle": (lambda sealed, it_ran: zipped({"data.pkl": pickle.dumps(Runs(it_ran))}), NOT_KERAS),
}  # fmt: skip


@pytest.mark.parametrize(("make", "says"), MODELS.values(), ids=MODELS.keys())
def test_a_model_of_a_stranger_is_refused_before_keras_opens_it(
    copy: Path, tmp_path: Path, make: Callable[[Path, Path], bytes], says: str
) -> None:
    put(copy, "model.keras", make(copy / "model.keras", tmp_path / "it ran"))
    opened = open_bundle(copy)
    with pytest.raises(UnsupportedModel, match=says) as refused:
        load_engine(opened.model_path, opened.manifest.embedding_layer)
    assert str(refused.value.file) == str(copy / "model.keras")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


@pytest.mark.parametrize("name", ["MobileNetV2", "ConvNeXtTiny"])  # the second has layers of its own
def test_a_network_of_keras_itself_holds_no_code(name: str) -> None:
    import keras

    network = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(32, 32, 3))
    assert code_in(json.loads(network.to_json())) == []


def test_an_archive_with_two_configurations_is_refused(copy: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(copy / "model.keras", "a") as archive:
        archive.writestr("config.json", "{}")
    put(copy, "model.keras", (copy / "model.keras").read_bytes())
    with pytest.raises(UnsupportedModel, match="two entries of one name"):
        load_engine(open_bundle(copy).model_path, "embedding")


def test_a_frozen_graph_that_writes_files_is_refused(copy: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.compat.v1.placeholder(tf.float32, (None, 40, 56, 3), name="image")
        with tf.control_dependencies([tf.io.write_file(str(tmp_path / "it ran"), "x")]):
            tf.constant([[0.5, 0.5]], name="probabilities")
        tf.constant([[0.0]], name="embedding")
    put(copy, "model.pb", graph.as_graph_def().SerializeToString())
    with pytest.raises(UnsupportedModel, match="does more than compute"):
        load_engine(open_bundle(copy).model_path, "embedding")
    assert not (tmp_path / "it ran").exists()


# -- schemas, old and new


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_manifest_of_every_schema_that_ever_was_is_understood(version: int) -> None:
    """A new schema adds its manifest here, and to MIGRATIONS what makes one of it from the last; none is changed."""
    data = (MANIFESTS / f"{version}.json").read_bytes()
    stated = json.loads(data)
    assert stated["schema_version"] == version
    understood = BundleManifest.model_validate(believed(data, "bundle.json"))
    assert understood.schema_version == SCHEMA_VERSION
    assert understood.id == stated["id"] == bundle_id(stated)
    for kept in ("name", "version", "digests", "preprocessing_digest"):
        assert getattr(understood, kept) == stated[kept]
    assert list(understood.classes) == stated["classes"]


def test_what_is_sealed_today_is_the_newest_of_them_field_by_field(tiny_bundle: Bundle) -> None:
    newest = json.loads((MANIFESTS / f"{SCHEMA_VERSION}.json").read_text())
    sealed = json.loads((tiny_bundle.path / "bundle.json").read_text())
    assert list(sealed) == list(newest)
    assert {key: type(value) for key, value in sealed.items()} == {key: type(value) for key, value in newest.items()}
    assert json.loads(BundleManifest.model_validate(newest).model_dump_json()) == newest


def test_every_older_schema_has_a_way_to_the_next() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))


def test_an_older_bundle_is_opened_as_the_next_schema_says_it_and_keeps_its_id(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = open_bundle(copy)

    def migrated(statements: dict[str, Any]) -> dict[str, Any]:
        return {**statements, "metrics": {"measured": statements["metrics"]}}

    monkeypatch.setattr(reading, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setitem(MIGRATIONS, SCHEMA_VERSION, migrated)
    opened = open_bundle(copy)
    assert opened.manifest.schema_version == SCHEMA_VERSION + 1
    assert opened.manifest.metrics == {"measured": sealed.manifest.metrics}
    assert opened.id == sealed.id


# -- signatures


def shell(page: str, beginning: str, folder: Path) -> None:
    """Run the block of shell of a page that begins with these words, in a folder."""
    blocks = (DOCS / page).read_text().split("```sh\n")[1:]
    (block,) = [block.split("```")[0] for block in blocks if block.startswith(beginning)]
    subprocess.run(["bash", "-euc", block], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with private.pem and keys/ada.pem, made as the documents say."""
    folder = tmp_path_factory.mktemp("ada")
    shell("trust.md", "openssl genpkey", folder)
    return folder


@pytest.fixture(scope="module")
def bob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bob")
    shell("trust.md", "openssl genpkey", folder)
    return folder


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models, tmp_path / "models"))


@pytest.fixture
def trusts_ada(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUSTED_KEYS, str(ada / "keys"))


def test_a_signed_bundle_is_the_same_bundle_and_tells_who_signed_it(
    copy: Path, ada: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_bundle(copy)
    signed = sign_bundle(copy, ada / "private.pem")
    assert signed.bundle_id == before.id
    assert open_bundle(copy) == before
    assert before.signed_by is None
    monkeypatch.setenv(TRUSTED_KEYS, str(ada / "keys"))
    opened = open_bundle(copy)
    assert opened.signed_by == f"ada ({signed.key})"
    assert opened.manifest == before.manifest
    assert len(signed.file.read_bytes()) == 64
    monkeypatch.setenv(TRUSTED_KEYS, str(ada / "keys" / "ada.pem"))
    assert open_bundle(copy).signed_by == opened.signed_by


def test_a_signature_can_be_checked_without_darkroom(copy: Path, ada: Path) -> None:
    sign_bundle(copy, ada / "private.pem")
    shutil.copytree(ada / "keys", copy / "keys")
    shell("trust.md", "openssl pkeyutl", copy)
    (copy / "bundle.json").write_text("{}")
    with pytest.raises(subprocess.CalledProcessError):
        shell("trust.md", "openssl pkeyutl", copy)


def test_several_may_sign_and_one_of_them_will_do(
    copy: Path, ada: Path, bob: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_bundle(copy, ada / "private.pem")
    sign_bundle(copy, bob / "private.pem")
    sign_bundle(copy, bob / "private.pem")
    assert len(list((copy / "signatures").iterdir())) == 2
    monkeypatch.setenv(TRUSTED_KEYS, str(bob / "keys"))
    assert open_bundle(copy).signed_by is not None
    shutil.copytree(ada / "keys", tmp_path / "both")
    shutil.copy(bob / "keys" / "ada.pem", tmp_path / "both" / "bob.pem")
    next(iter((copy / "signatures").iterdir())).write_bytes(bytes(64))
    monkeypatch.setenv(TRUSTED_KEYS, str(tmp_path / "both"))
    assert str(open_bundle(copy).signed_by).startswith(("ada", "bob"))


def signed_by(who: str) -> Callable[[Path, dict[str, Path]], None]:
    def sign(bundle: Path, people: dict[str, Path]) -> None:
        sign_bundle(bundle, people[who] / "private.pem")

    return sign


def then(change: Callable[[Path, Path], object]) -> Callable[[Path, dict[str, Path]], None]:
    """Signed by Ada, and then changed: the bundle, the file of the signature."""

    def unsigned(bundle: Path, people: dict[str, Path]) -> None:
        change(bundle, sign_bundle(bundle, people["ada"] / "private.pem").file)

    return unsigned


def of_another_version(bundle: Path, signature: Path) -> None:
    consistently(bundle, version=9)


def one_bit(bundle: Path, signature: Path) -> None:
    data = bytearray(signature.read_bytes())
    data[40] ^= 1
    signature.write_bytes(data)


def by_link(bundle: Path, signature: Path) -> None:
    signature.symlink_to(signature.rename(bundle.parent / "elsewhere"))


def another_knob(bundle: Path, signature: Path) -> None:
    file = bundle / "preprocessing.json"
    put(bundle, "preprocessing.json", file.read_bytes().replace(b'"bilinear"', b'"bicubic"'))


NONE, WRONG = "none of the trusted keys has signed", "The signature does not hold"
UNTRUSTED = {
    "nobody": (lambda bundle, people: None, f"{NONE}.*no signature"),
    "somebody else": (signed_by("bob"), f"{NONE}.*signatures by the keys"),
    "another bundle's": (then(of_another_version), WRONG),
    "a bit of it changed": (then(one_bit), WRONG),
    "a file changed, with its digest and the id": (then(another_knob), WRONG),
    "bundle.json in other words": (then(lambda b, s: consistently(b)), WRONG),
    "half of it": (then(lambda b, s: s.write_bytes(s.read_bytes()[:32])), WRONG),
    "nothing in it": (then(lambda b, s: s.write_bytes(b"")), WRONG),
    "gigabytes in it": (then(lambda b, s: os.truncate(s, 1 << 32)), WRONG),
    "a link to it": (then(by_link), NONE),
    "a folder of its name": (then(lambda b, s: (s.unlink(), s.mkdir())), NONE),
    "nobody, and bundle.json is a trap": (lambda b, people: text(STATED % ("[" * 1_000_000))(b), NONE),
    "signed, and bundle.json is a trap now": (then(lambda b, s: text(STATED % ("[" * 1_000_000))(b)), WRONG),
}


@pytest.mark.usefixtures("trusts_ada")
@pytest.mark.parametrize(("prepare", "says"), UNTRUSTED.values(), ids=UNTRUSTED.keys())
def test_where_signatures_are_required_nothing_else_is_parsed(
    copy: Path, ada: Path, bob: Path, prepare: Callable[[Path, dict[str, Path]], object], says: str
) -> None:
    prepare(copy, {"ada": ada, "bob": bob})
    with pytest.raises(BundleUntrusted, match=rf"(?s){says}") as refused:
        open_bundle(copy)
    assert "ada (" in str(refused.value.expected)
    assert refused.value.exit_code == 1
    assert refused.value.todo


def test_a_changed_bundle_cannot_be_signed(copy: Path, ada: Path) -> None:
    (copy / "suite.json").write_bytes(b"{}")
    with pytest.raises(BundleTampered, match=r"suite\.json was changed"):
        sign_bundle(copy, ada / "private.pem")
    assert not (copy / "signatures").exists()


OPENINGS: dict[str, Callable[[Path], object]] = {
    "find": lambda models: find_bundle(models, "tiny"),
    "open": lambda models: open_bundle(models / "tiny" / "1"),
    "prove": lambda models: prove(models / "tiny" / "1"),
    "predict": lambda models: predict_files(models / "tiny" / "1", []),
    "promote": lambda models: promote(models, "tiny", 1, reason="mine", by="eve"),
    "a form": lambda models: _validated(models / "tiny"),
}


def _validated(bundle: Path) -> object:
    from flows.score import score

    return score.validate_parameters({"bundle": str(bundle), "inbox": "inbox", "results": "results"})


@pytest.mark.usefixtures("trusts_ada")
@pytest.mark.parametrize("open_it", OPENINGS.values(), ids=OPENINGS.keys())
def test_every_way_to_a_bundle_keeps_to_the_policy(
    models: Path, ada: Path, open_it: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DarkroomError) as refused:
        open_it(models)
    assert isinstance(refused.value, BundleUntrusted)
    for version in ("1", "2"):
        sign_bundle(models / "tiny" / version, ada / "private.pem")
    if open_it not in (OPENINGS["prove"], OPENINGS["predict"]):  # which the tiny bundle is too small for
        open_it(models)


@pytest.mark.usefixtures("trusts_ada")
def test_what_is_sealed_waits_for_a_signature(
    tiny_contents: SealedContents, tmp_path: Path, ada: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = seal_bundle(tmp_path, "tiny", tiny_contents, promote=True)
    with pytest.raises(BundleUnreadable, match="No version of this bundle is in use"):
        find_bundle(tmp_path, "tiny")
    with pytest.raises(BundleUntrusted):
        promote(tmp_path, "tiny", 1, reason="", by="eve")
    sign_bundle(sealed.path, ada / "private.pem")
    promote(tmp_path, "tiny", 1, reason="signed", by="eve")
    assert open_bundle(find_bundle(tmp_path, "tiny")).id == sealed.id


def test_a_version_cannot_be_put_into_use_as_it_is_sealed(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_no_signature(True)
    monkeypatch.setenv(TRUSTED_KEYS, str(ada / "keys"))
    needs_no_signature(False)
    with pytest.raises(WrongUse, match="must be signed"):
        needs_no_signature(True)


# -- the policy, and keys that are none


def key(command: str) -> Callable[[Path], object]:
    return lambda folder: subprocess.run(["bash", "-euc", command], cwd=folder, check=True, capture_output=True)


ED25519 = "openssl genpkey -algorithm ed25519"
POLICIES = {
    "a folder that is not there": (lambda folder: folder.rmdir(), "The key cannot be read"),
    "an empty folder": (lambda folder: None, "there is no key"),
    "a private key": (key(f"{ED25519} -out ada.pem"), "This is a private key"),
    "a key of another kind": (
        key("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | openssl pkey -pubout -out ada.pem"),
        "no public key that darkroom takes",
    ),
    "no key at all": (lambda folder: (folder / "ada.pem").write_text("hello"), "no public key that darkroom takes"),
    "a good key and a bad one": (
        key(f"{ED25519} | openssl pkey -pubout -out ada.pem; echo hello > bob.pem"),
        "no public key that darkroom takes",
    ),
}


@pytest.mark.parametrize(("prepare", "says"), POLICIES.values(), ids=POLICIES.keys())
def test_a_policy_that_cannot_be_kept_opens_nothing(
    copy: Path,
    ada: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Path], object],
    says: str,
) -> None:
    sign_bundle(copy, ada / "private.pem")
    (tmp_path / "keys").mkdir()
    prepare(tmp_path / "keys")
    monkeypatch.setenv(TRUSTED_KEYS, str(tmp_path / "keys"))
    with pytest.raises(WrongUse, match=says) as refused:
        open_bundle(copy)
    assert refused.value.todo
    assert "-----BEGIN" not in str(refused.value)


@pytest.mark.parametrize("name", ["keys/ada.pem", "nothing.pem", "../copy/bundle.json"])
def test_only_a_private_key_signs(copy: Path, ada: Path, name: str) -> None:
    with pytest.raises(WrongUse) as refused:
        sign_bundle(copy, ada / name)
    assert refused.value.file == str(ada / name)


def test_a_private_key_with_a_passphrase_asks_for_it(
    copy: Path, ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key(f"openssl pkey -in {ada}/private.pem -aes256 -passout pass:secret -out locked.pem")(tmp_path)
    monkeypatch.setattr("tasks.bundle.signatures.getpass", lambda prompt: "wrong")
    with pytest.raises(WrongUse):
        sign_bundle(copy, tmp_path / "locked.pem")
    monkeypatch.setattr("tasks.bundle.signatures.getpass", lambda prompt: "secret")
    locked = sign_bundle(copy, tmp_path / "locked.pem")
    assert locked.key == sign_bundle(copy, ada / "private.pem").key


def test_the_policy_reaches_every_process_of_a_run(
    copy: Path, ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(trusted_keys="keys")
    assert _job(tmp_path, project)["env"][TRUSTED_KEYS] == str(tmp_path / "keys")
    assert TRUSTED_KEYS not in _job(tmp_path, Project())["env"]
    monkeypatch.setenv(TRUSTED_KEYS, str(ada / "keys"))
    assert _environment()[TRUSTED_KEYS] == str(ada / "keys")
    code = "import sys; from pathlib import Path; from tasks.bundle import open_bundle; open_bundle(Path(sys.argv[1]))"
    process = in_new_process(code, copy)
    assert "BundleUntrusted" in process.communicate()[1]
    assert process.returncode == 1


def test_workers_of_a_cluster_that_a_run_starts_keep_to_its_policy(
    copy: Path, ada: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.setenv(TRUSTED_KEYS, str(ada / "keys"))
    own = {"n_workers": 1, "threads_per_worker": 1, "memory_limit": None, "dashboard_address": None}
    with LocalCluster(**own) as cluster, Client(cluster) as client:
        with pytest.raises(BundleUntrusted):
            client.submit(open_bundle, copy, pure=False).result()
        signed = sign_bundle(copy, ada / "private.pem")
        assert client.submit(open_bundle, copy, pure=False).result().signed_by == f"ada ({signed.key})"


def test_a_worker_elsewhere_that_would_believe_anything_takes_no_part(
    copy: Path, ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_bundle(copy, ada / "private.pem")
    opened = open_bundle(copy)
    proof = Proof(
        bundle_id=opened.id,
        path=str(copy),
        goldens=1,
        max_probability_difference=0.0,
        engine="keras",
        seconds=0.0,
        signed_by="ada (0123456789abcdef)",
    )
    assert TRUSTED_KEYS in str(lacks_bundle(proof))
    monkeypatch.setenv(TRUSTED_KEYS, str(tmp_path / "none"))
    assert "The key cannot be read" in str(lacks_bundle(proof))
    monkeypatch.setenv(TRUSTED_KEYS, str(ada / "keys"))
    assert lacks_bundle(proof) is None


# -- the command line


def darkroom(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, done.output


def test_the_command_signs_and_the_policy_of_the_folder_is_kept(
    models: Path, ada: Path, bob: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    again = ("promote", "tiny", 1, "--reason", "again")
    assert darkroom(*again)[0] == 0
    (tmp_path / "darkroom.toml").write_text('trusted_keys = "keys"\n')
    shutil.copytree(ada / "keys", tmp_path / "keys")
    code, told = darkroom(*again)
    assert (code, "none of the trusted keys has signed" in told) == (1, True)
    code, told = darkroom("sign", "models/tiny/1", "--key", ada / "private.pem", "--json")
    assert (code, Path(json.loads(told)["file"]).is_file()) == (0, True)
    assert darkroom(*again)[0] == 0
    assert darkroom("--trusted-keys", bob / "keys", *again)[0] == 1
    assert TRUSTED_KEYS not in os.environ
    (tmp_path / "darkroom.toml").write_text("trusted_keys = 3\n")
    assert (darkroom(*again)[0], "trusted_keys" in darkroom(*again)[1]) == (2, True)
    (tmp_path / "darkroom.toml").write_text("trusted_keys = ")
    assert darkroom(*again)[0] == 2


def test_what_is_typed_wins_over_the_environment_and_that_over_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "darkroom.toml").write_text('trusted_keys = "project"\n')
    seen = []
    for environment, typed in (("", None), ("/environment", None), ("/environment", Path("typed"))):
        monkeypatch.setenv(TRUSTED_KEYS, environment)
        with trusting(typed, tmp_path):
            seen.append(os.environ[TRUSTED_KEYS])
        assert os.environ[TRUSTED_KEYS] == environment
    assert seen == [str(tmp_path / "project"), "/environment", str(tmp_path / "typed")]
