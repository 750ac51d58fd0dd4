"""``vidprism-edge inspect``."""

from __future__ import annotations

import json

import msgspec

from vidprism_edge.bundle import Manifest
from vidprism_edge.spec import COMPONENTS, STREAMS


def test_people_see_model_streams_graphs_and_that_nothing_is_trained(cli, tiny_bundle):
    done = cli("inspect", tiny_bundle)
    assert done.returncode == 0, done.stderr
    assert "untrained" in done.stdout
    assert "random encoder" in done.stdout
    assert "one, two, three" in done.stdout
    first = [line.split()[0] for line in done.stdout.splitlines() if line]
    assert set(COMPONENTS) <= set(first)
    assert set(STREAMS) <= set(first)


def test_json_is_the_manifest(cli, tiny_bundle):
    done = cli("inspect", tiny_bundle, "--json")
    stored = json.loads((tiny_bundle / "manifest.json").read_text())
    assert json.loads(done.stdout) == stored
    assert msgspec.json.decode(done.stdout, type=Manifest).trained is False
    for graph in stored["graphs"]:
        assert graph.keys() >= {"name", "file", "precision", "macs", "sha256"}
