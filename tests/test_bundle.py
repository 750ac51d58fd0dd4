"""Bundles: every byte is protected, no path leaves the folder, and writing is all or nothing."""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprism_edge import bundle as bundle_module
from vidprism_edge.bundle import (
    MANIFEST,
    Bundle,
    GraphInfo,
    Manifest,
    TensorInfo,
    hash_file,
    schema,
    writing,
)
from vidprism_edge.errors import BundleError, UsageError
from vidprism_edge.spec import COMPONENTS


def make(folder: Path, spec: object) -> Path:
    """A bundle whose graphs are a few bytes: nothing here runs them."""
    folder.mkdir(parents=True)
    graphs = []
    for name in COMPONENTS:
        file = folder / f"graphs/onnx/{name}.onnx"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"graph {name}".encode() * 20)
        tensor = TensorInfo("x", (1, 2))
        graphs.append(
            GraphInfo(
                name=name,
                file=str(file.relative_to(folder)),
                precision="fp32",
                macs=7,
                sha256=hash_file(file),
                inputs=(tensor,),
                outputs=(tensor,),
            )
        )
    (folder / "golden").mkdir()
    np.savez(folder / "golden/head.npz", **{"a/input/x": np.ones((1, 2)), "a/output/x": np.zeros((1, 2))})
    (folder / "labels.txt").write_text("\n".join(spec.labels))
    files = {name: hash_file(folder / name) for name in ("golden/head.npz", "labels.txt")}
    Manifest(
        created="2026-01-01T00:00:00+00:00", spec=spec, trained=False, random_weights=True, seed=0, targets=("onnx",),
        graphs=tuple(graphs), files=files, licences={}, tools={},
    ).write(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def whole(tiny_spec, tmp_path_factory):
    return make(tmp_path_factory.mktemp("made") / "whole.vpbundle", tiny_spec)


@pytest.fixture
def bundle(whole, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "x.vpbundle"))


def reseal(folder: Path, **fields: object) -> None:
    """Change the manifest as someone would who knows how it is sealed."""
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    msgspec.structs.replace(manifest, **fields).write(folder)


def refused(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder).check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_bundle_opens_and_checks(bundle, tiny_spec):
    opened = Bundle.open(bundle)
    assert opened.check() == len(COMPONENTS) + 2
    assert opened.spec == tiny_spec
    assert opened.macs == dict.fromkeys(COMPONENTS, 7)
    assert json.loads((bundle / MANIFEST).read_text())["graphs"][0].keys() >= {
        "name",
        "file",
        "precision",
        "macs",
        "sha256",
    }


@settings(max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_manifest_is_seen(whole, tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("flip") / "x.vpbundle"
    shutil.copytree(whole, folder)
    data = bytearray((folder / MANIFEST).read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    (folder / MANIFEST).write_bytes(data)
    assert refused(folder)
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize("name", ["graphs/onnx/head.onnx", "golden/head.npz", "labels.txt"])
def test_a_flipped_bit_of_any_file_is_seen(bundle, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    assert f"{name} does not have the sha256" in refused(bundle)


@pytest.mark.parametrize("name", ["graphs/onnx/head.onnx", "golden/head.npz", "labels.txt"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    assert f"{name} is missing" in refused(bundle)


@pytest.mark.parametrize("length", [300, 10_000])
def test_a_name_that_no_system_takes_is_refused(bundle, length):
    reseal(bundle, files={"a" * length: "0" * 64})
    assert "is missing" in refused(bundle) or "leaves the bundle" in refused(bundle)


def test_a_graph_that_the_manifest_lacks_is_named(bundle):
    graphs = Bundle.open(bundle).manifest.graphs
    reseal(bundle, graphs=graphs[1:])
    assert "lists no graph analyzer" in refused(bundle)


OUTSIDE = ["../secret", "/etc/passwd", "graphs/../../secret", "..\\secret", "", ".", "golden/../..", "a/\0b"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_that_leaves_the_bundle_is_refused_when_it_opens(bundle, name):
    graphs = Bundle.open(bundle).manifest.graphs
    reseal(bundle, files={name: "0" * 64})
    assert "leaves the bundle" in refused(bundle)
    reseal(bundle, files={}, graphs=(msgspec.structs.replace(graphs[0], file=name), *graphs[1:]))
    assert "leaves the bundle" in refused(bundle)


def test_a_link_that_leaves_the_bundle_is_refused(bundle, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    (bundle / "labels.txt").unlink()
    (bundle / "labels.txt").symlink_to(secret)
    reseal(bundle, files={"labels.txt": hash_file(secret)})
    assert "link that leaves the bundle" in refused(bundle)
    (bundle / "labels.txt").unlink()
    (bundle / "labels.txt").symlink_to("labels.txt")
    assert "link that leaves the bundle" in refused(bundle)
    (bundle / "labels.txt").unlink()
    (bundle / "labels.txt").symlink_to("graphs/onnx/head.onnx")
    reseal(bundle, files={"labels.txt": hash_file(bundle / "labels.txt")})
    assert Bundle.open(bundle).check() == len(COMPONENTS) + 1


def test_a_linked_folder_is_followed_no_further(bundle, tmp_path):
    shutil.move(bundle / "golden", tmp_path / "elsewhere")
    (bundle / "golden").symlink_to(tmp_path / "elsewhere")
    assert "link that leaves the bundle" in refused(bundle)


def test_a_bundle_may_itself_be_a_link(bundle, tmp_path):
    (tmp_path / "link").symlink_to(bundle)
    assert Bundle.open(tmp_path / "link").check()


def test_a_field_that_came_later_does_not_break_older_bundles(bundle):
    """A new field has a default, and what is sealed is the bytes of the file, not the values."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest["engines"], manifest["spec"]["fusion_passes"]
    manifest["digest"] = ""
    data = json.dumps(manifest, indent=2)
    digest = hashlib.sha256(data.encode()).hexdigest()
    (bundle / MANIFEST).write_text(data.replace('"digest": ""', f'"digest": "{digest}"'))
    assert Bundle.open(bundle).spec.fusion_passes == 2


def test_what_is_no_bundle(tmp_path, bundle):
    assert "does not exist" in refused(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "is not a bundle" in refused(tmp_path / "empty")
    for content in (b"", b"{}", b"[]", b"\xff\xfe", b"null", b"{" * 100_000):
        (bundle / MANIFEST).write_bytes(content)
        assert "not a manifest" in refused(bundle)
    (bundle / MANIFEST).write_bytes(b" " * (5 << 20))
    assert "expected at most" in refused(bundle)
    (bundle / MANIFEST).unlink()
    (bundle / MANIFEST).mkdir()
    assert "is not a bundle" in refused(bundle)


def test_another_schema_says_so(bundle):
    reseal(bundle, schema=2)
    assert "schema 2, this version reads 1" in refused(bundle)


def test_golden_vectors_come_by_case(bundle):
    ((case, inputs, outputs),) = Bundle.open(bundle).golden("head")
    assert case == "a"
    assert np.array_equal(inputs["x"], np.ones((1, 2)))
    assert np.array_equal(outputs["x"], np.zeros((1, 2)))


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"a/input/x": np.array([object()], dtype=object)})
    return buffer.getvalue()


def not_an_array() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("name", b"x")
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"PK\x03\x04 no zip", b"\x80\x04.", pickled(), not_an_array()])
def test_golden_vectors_are_never_unpickled(bundle, content):
    """Even where the manifest vouches for them."""
    (bundle / "golden/head.npz").write_bytes(content)
    reseal(bundle, files={"golden/head.npz": hash_file(bundle / "golden/head.npz")})
    with pytest.raises(BundleError, match="does not hold golden vectors"):
        list(Bundle.open(bundle).golden("head"))


def npz(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def array(shape: tuple[int, ...], data: bytes) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


#: Each would take gigabytes, or hours, of a reader that believes it.
BOMBS = {
    "a tensor of a gigabyte": npz({"a/input/x": array((1 << 28,), bytes(1 << 28))}),
    "a header that claims a terabyte": npz({"a/input/x": array((1 << 38,), b"")}),
    "a hundred thousand cases": npz({f"{i}/input/x": b"" for i in range(100_000)}),
    "tensors that no graph has": npz({f"a/input/{i}": array((2,), bytes(8)) for i in range(10)}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_among_the_golden_vectors_does_not_go_off(bundle, name):
    (bundle / "golden/head.npz").write_bytes(BOMBS[name])
    reseal(bundle, files={"golden/head.npz": hash_file(bundle / "golden/head.npz")})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match="does not hold golden vectors"):
        list(Bundle.open(bundle).golden("head"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_manifest_with_a_million_graphs_is_refused_by_its_size(bundle):
    data = (bundle / MANIFEST).read_bytes()
    head, tail = data.split(b'"graphs": [')
    (bundle / MANIFEST).write_bytes(head + b'"graphs": [' + b"{}," * 1_000_000 + tail)
    assert "missing required field" in refused(bundle)
    (bundle / MANIFEST).write_bytes(head + b'"graphs": [' + b"{   }," * 1_000_000 + tail)
    assert "expected at most" in refused(bundle)
    reseal_many = json.loads(data)
    reseal_many["graphs"] = reseal_many["graphs"] * 100
    write_sealed(bundle, reseal_many)
    assert "lists 700 graphs" in refused(bundle)


def write_sealed(folder: Path, values: dict[str, object]) -> None:
    """Write any JSON as a manifest whose digest is right."""
    blank = json.dumps({**values, "digest": ""}, indent=2).encode() + b"\n"
    digest = hashlib.sha256(blank).hexdigest().encode()
    head, mark, tail = blank.rpartition(b'"digest": ""')
    (folder / MANIFEST).write_bytes(head + mark[:-1] + digest + b'"' + tail)


def test_an_enormous_file_is_refused_before_it_is_read(bundle):
    with (bundle / "graphs/onnx/head.onnx").open("r+b") as file:
        file.truncate(1 << 40)
    assert "expected at most" in refused(bundle)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        ({"name": "x", "shape": [1, -2]}, "sides of 1 or more"),
        ({"name": "x", "shape": [0]}, "sides of 1 or more"),
        ({"name": "x", "shape": [1 << 20, 1 << 20]}, "numbers"),
        ({"name": "x", "shape": [1, 2], "dtype": "object"}, "object"),
        ({"name": "x", "shape": [1, 2], "dtype": "float64"}, "float64"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(bundle, tensor, says):
    values = json.loads((bundle / MANIFEST).read_bytes())
    values["graphs"][0]["inputs"] = [tensor]
    write_sealed(bundle, values)
    assert says in refused(bundle)


NASTY = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20), st.just([]), st.just({}), st.just("../../etc/passwd"), st.just("a" * 10_000),
    st.just([[[[]]]]), st.sampled_from([0, -1, 1e308, 2**31, 2**63, "\x00", "/"]),
)  # fmt: skip


def leaves(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(leaf for key, inner in items for leaf in leaves(inner, (*path, key)))]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_in_a_sealed_manifest_is_read_or_refused(whole, data):
    """Someone who knows how a manifest is sealed can write anything: one line then, never a traceback."""
    values = json.loads((whole / MANIFEST).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(leaves(values)[1:]))
        inner = values
        for key in path[:-1]:
            inner = inner[key]
        if data.draw(st.booleans()):
            inner[path[-1]] = data.draw(NASTY)
        else:
            del inner[path[-1]]
    folder = whole.parent / "fuzzed"
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    write_sealed(folder, values)
    said = ""
    try:
        bundle = Bundle.open(folder)
        bundle.check()
        assert all(0 < bundle.spec.slots(name) <= 1 << 16 for name in bundle.spec.streams)
    except BundleError as error:
        said = str(error)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("field", "value"),
    [("window_s", 1e308), ("window_s", 1e9), ("hop_s", 5e-324), ("width", 0), ("width", -5), ("width", 10**12),
     ("fusion_heads", 0), ("scene_grid", -1), ("scene_grid", 10**9), ("small_px", 0), ("small_px", 10**9),
     ("max_age_s", 0.0), ("repeat_s", -1.0), ("repeat_s", 1e308), ("analyzer_grid", 0), ("fusion_passes", 10**9)],
)  # fmt: skip
def test_a_spec_that_would_ask_for_the_whole_memory_is_refused(bundle, field, value):
    values = json.loads((bundle / MANIFEST).read_bytes())
    values["spec"][field] = value
    write_sealed(bundle, values)
    assert field in refused(bundle)


@pytest.mark.parametrize(
    ("field", "value"), [("size_px", 10**9), ("rate_hz", 1e-300), ("stale_s", 1e308), ("stale_s", -1.0)]
)
def test_a_stream_that_cannot_be_is_refused(bundle, field, value):
    values = json.loads((bundle / MANIFEST).read_bytes())
    values["spec"]["streams"]["hybrid"][field] = value
    write_sealed(bundle, values)
    assert field in refused(bundle)


def test_the_published_schema_is_that_of_the_manifest(root):
    """Made by: python -c 'from vidprism_edge.bundle import schema; print(schema())'."""
    assert (root / "vidprism_edge/manifest.schema.json").read_text() == schema() + "\n"


# ---- writing ------------------------------------------------------------------------------------


def fill(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_writing_puts_a_bundle_in_place_at_the_end(tmp_path):
    with writing(tmp_path / "deep/er/x", force=False) as folder:
        fill(folder, "new")
        assert not (tmp_path / "deep/er/x").exists()
    assert (tmp_path / "deep/er/x" / MANIFEST).read_text() == "new"
    assert listing(tmp_path) == ["deep", "deep/er", "deep/er/x", f"deep/er/x/{MANIFEST}"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("there", [False, True])
def test_an_error_leaves_everything_as_it_was(tmp_path, error, there):
    output = tmp_path / "x"
    if there:
        output.mkdir()
        fill(output, "old")
    before = listing(tmp_path)
    with pytest.raises(error), writing(output, force=there) as folder:
        fill(folder, "new")
        raise error
    assert listing(tmp_path) == before
    assert not there or (output / MANIFEST).read_text() == "old"


def test_force_replaces_a_bundle_and_only_a_bundle(tmp_path):
    output = tmp_path / "x"
    output.mkdir()
    (output / "diary.txt").write_text("x")
    with pytest.raises(UsageError, match="--force replaces bundles only"), writing(output, force=True):
        pass
    fill(output, "old")
    with pytest.raises(UsageError, match="--force"), writing(output, force=False):
        pass
    with writing(output, force=True) as folder:
        fill(folder, "new")
    assert listing(tmp_path) == ["x", f"x/{MANIFEST}"]
    assert (output / MANIFEST).read_text() == "new"


def test_what_is_in_the_way_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for output in (tmp_path / "file", tmp_path / "file/x", tmp_path / "dangling"):
        for force in (False, True):
            with pytest.raises(UsageError), writing(output, force=force):
                pytest.fail("nothing can be written there")
    assert listing(tmp_path) == ["dangling", "file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_a_usage_error(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UsageError, match="cannot write"), writing(tmp_path / "x", force=False):
        pass


KILLED = """
import os, signal, sys, time
from pathlib import Path
from vidprism_edge.bundle import writing
with writing(Path(sys.argv[1]), force=True) as folder:
    (folder / "manifest.json").write_text("new")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_the_old_bundle_and_the_next_one_works(tmp_path):
    output = tmp_path / "x"
    output.mkdir()
    fill(output, "old")
    writer = subprocess.Popen([sys.executable, "-c", KILLED, output], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert (output / MANIFEST).read_text() == "old"
    with writing(output, force=True) as folder:
        fill(folder, "newer")
    assert (output / MANIFEST).read_text() == "newer"


def test_a_bundle_is_replaced_in_one_step(tmp_path, monkeypatch):
    """A kill between two steps would leave no bundle where there was one."""
    output = tmp_path / "x"
    output.mkdir()
    fill(output, "old")
    if not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("this system cannot exchange two folders")
    monkeypatch.setattr(os, "replace", lambda *_: pytest.fail("replaced in two steps"))
    with writing(output, force=True) as folder:
        fill(folder, "new")
    assert (output / MANIFEST).read_text() == "new"
    assert listing(tmp_path) == ["x", f"x/{MANIFEST}"]


def test_where_folders_cannot_be_exchanged_two_steps_do(tmp_path, monkeypatch):
    output = tmp_path / "x"
    output.mkdir()
    fill(output, "old")
    monkeypatch.setattr(bundle_module, "_swap", lambda *_: False)
    with writing(output, force=True) as folder:
        fill(folder, "new")
    assert (output / MANIFEST).read_text() == "new"
    assert listing(tmp_path) == ["x", f"x/{MANIFEST}"]
