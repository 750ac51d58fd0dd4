"""``vidprism-edge verify`` and ``inspect`` on sound and on damaged bundles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.cli.folders import Place
from vidprism_edge.bundle import MANIFEST, Bundle, Manifest, hash_file
from vidprism_edge.spec import COMPONENTS


@pytest.fixture
def place(cli, tmp_path, tiny_bundle):
    place = Place(cli, tmp_path)
    shutil.copytree(tiny_bundle, place.work / "x.vpbundle")
    return place


def flip(file: Path, share: float = 0.5) -> None:
    data = bytearray(file.read_bytes())
    data[int(share * len(data))] ^= 0x10
    file.write_bytes(data)


def reseal(bundle: Path, **fields: object) -> None:
    manifest = msgspec.json.decode((bundle / MANIFEST).read_bytes(), type=Manifest)
    msgspec.structs.replace(manifest, **fields).write(bundle)


def drop_graph(bundle: Path) -> None:
    (bundle / "graphs/onnx/fusion.onnx").unlink()


def unlist_graph(bundle: Path) -> None:
    reseal(bundle, graphs=Bundle.open(bundle).manifest.graphs[1:])


def leave(name: str):
    return lambda bundle: reseal(bundle, files={name: "0" * 64})


def link_out(bundle: Path) -> None:
    secret = bundle.parent / "secret"
    secret.write_text("x")
    (bundle / "labels.txt").unlink()
    (bundle / "labels.txt").symlink_to(secret)
    reseal(bundle, files={"labels.txt": hash_file(secret)})


def swap_graph(bundle: Path) -> None:
    """No ONNX graph at all, though the manifest vouches for it."""
    file = bundle / "graphs/onnx/head.onnx"
    file.write_bytes(b"no graph")
    graphs = Bundle.open(bundle).manifest.graphs
    reseal(
        bundle,
        graphs=tuple(
            msgspec.structs.replace(g, sha256=hash_file(file)) if g.name == "head" else g for g in graphs
        ),
    )


DAMAGE = {
    "graph flipped": (
        lambda b: flip(b / "graphs/onnx/spatial.onnx"),
        "spatial.onnx does not have the sha256",
    ),
    "golden flipped": (lambda b: flip(b / "golden/fusion.npz"), "fusion.npz does not have the sha256"),
    "labels flipped": (lambda b: flip(b / "labels.txt"), "labels.txt does not have the sha256"),
    "manifest flipped": (lambda b: flip(b / MANIFEST, 0.3), "manifest.json"),
    "manifest cut": (lambda b: (b / MANIFEST).write_bytes((b / MANIFEST).read_bytes()[:999]), "manifest"),
    "manifest missing": (lambda b: (b / MANIFEST).unlink(), "is not a bundle"),
    "graph missing": (drop_graph, "fusion.onnx is missing from the bundle"),
    "graph not listed": (unlist_graph, "lists no graph analyzer"),
    "path with ..": (leave("../secret"), "leaves the bundle"),
    "absolute path": (leave("/etc/hostname"), "leaves the bundle"),
    "link": (link_out, "leaves the bundle"),
    "no onnx": (swap_graph, "ONNX Runtime cannot load"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_bundle_is_one_line_and_exit_6(place, name):
    damage, says = DAMAGE[name]
    damage(place.work / "x.vpbundle")
    assert says in place.refuses(6, "verify", "x.vpbundle")


@pytest.mark.parametrize("name", ["graph flipped", "manifest flipped", "graph missing", "path with .."])
@pytest.mark.parametrize("command", ["run", "benchmark", "inspect"])
def test_no_command_uses_a_damaged_bundle(place, command, name):
    damage, says = DAMAGE[name]
    damage(place.work / "x.vpbundle")
    source = [] if command == "inspect" else ["--source", "synthetic:1"]
    assert says in place.refuses(6, command, "x.vpbundle", *source)


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (6, "nothing.vpbundle", "does not exist"),
        (6, "x.vpbundle/labels.txt", "is a file"),
        (6, ".", "is not a bundle"),
        (2, "", "Missing argument 'bundle'"),
        (2, "x.vpbundle --engine onnx", "unknown engine 'onnx'; known: onnxruntime"),
        (2, "x.vpbundle --threads -1", "threads is -1"),
        (2, "x.vpbundle --atol -1", "tolerance"),
        (2, "x.vpbundle --rtol nan", "tolerance"),
        (2, "x.vpbundle --atol many", "atol"),
        (2, "x.vpbundle --nonsense", "--nonsense"),
    ],
)
def test_wrong_arguments(place, code, arguments, says):
    assert says in place.refuses(code, "verify", *arguments.split())


def test_a_sound_bundle_prints_every_graphs_largest_error(place):
    done = place.run("verify", "x.vpbundle")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert set(COMPONENTS) <= set(rows)
    assert all(rows[name].rstrip().endswith("ok") for name in COMPONENTS)
    assert "tolerance fp32 0.0001 + 0.0001 * |reference|" in done.stdout


def test_an_output_that_is_off_fails_with_exit_4_and_is_named(place):
    bundle = place.work / "x.vpbundle"
    file = bundle / "golden/head.npz"
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    case = next(name for name in arrays if "/output/" in name)
    arrays[case][0, 1] += 0.01
    np.savez_compressed(file, **arrays)
    reseal(bundle, files={**Bundle.open(bundle).manifest.files, "golden/head.npz": hash_file(file)})
    done = place.run("verify", "x.vpbundle", "--json")
    assert done.returncode == 4
    assert "graph head is off by 0.01 on output logits" in done.stderr
    report = json.loads(done.stdout)
    assert not report["passed"]
    assert {o["graph"] for o in report["outputs"] if not o["passed"]} == {"head"}
    assert place.run("verify", "x.vpbundle", "--atol", "0.02").returncode == 0
