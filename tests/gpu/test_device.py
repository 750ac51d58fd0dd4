"""On a real GPU: engines are built, agree with torch, run a stream, and say how fast. ``make gpu-test`` runs this."""

from __future__ import annotations

import json
import shutil

import pytest

from vidprism_edge.errors import EngineError

#: What TensorRT 10.3 and later build for; a board of another capability skips with the reason.
CAPABILITIES = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "11.0", "12.0", "12.1")

pytestmark = pytest.mark.gpu


def skip_reason(capability: str) -> str | None:
    """Why a GPU of this compute capability is not tested, None where it is."""
    if capability in CAPABILITIES:
        return None
    return f"compute capability {capability} is none of those that are supported: {', '.join(CAPABILITIES)}"


@pytest.fixture(scope="module")
def device():
    from vidprism_edge.cli.build import find_device

    try:
        found = find_device()
    except EngineError as error:
        pytest.skip(str(error))
    if reason := skip_reason(found.compute_capability):
        pytest.skip(reason)
    return found


def test_build_verify_and_run(device, jetson_bundle, tmp_path, cli, real_clip):
    bundle = tmp_path / "x.vpbundle"
    shutil.copytree(jetson_bundle, bundle)
    built = cli("build", bundle, "--json", timeout=1800)
    assert built.returncode == 0, built.stderr
    record = json.loads(built.stdout)
    assert len(record["chosen"]) == 7
    print({engine["graph"]: engine["latency_ms"] for engine in record["engines"]}, record["device"])
    verified = cli("verify", bundle, "--engine", "tensorrt", "--json")
    assert verified.returncode == 0, verified.stderr
    ran = cli("run", bundle, "--engine", "tensorrt", "--source", real_clip, "--no-window", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1])["summary"]["ready"] > 0
