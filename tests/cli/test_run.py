"""``vidprism-edge run``: bad sources, the JSON that it prints, and that it keeps to itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli.folders import Place, tree
from tests.runtimes.streaming.made_videos import scene, write_video
from vidprism_edge.bundle import Bundle
from vidprism_edge.spec import STREAMS, EventSpec

DECISION = {"t_ns", "ready", "label", "scores", "experts_fired", "macs", "ages_ms", "skipped"}


@pytest.fixture
def place(cli, tmp_path):
    return Place(cli, tmp_path)


def parse(text: str) -> tuple[list[dict], dict]:
    *decisions, last = [json.loads(line) for line in text.splitlines()]
    assert set(last) == {"summary"}
    return decisions, last["summary"]


# ---- bad input ----------------------------------------------------------------------------------


def make_bad_files(folder: Path) -> None:
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    (folder / "noise.avi").write_bytes(np.random.default_rng(0).bytes(5000))
    write_video(folder / "whole.mp4", [scene(k) for k in range(20)])
    (folder / "cut.mp4").write_bytes((folder / "whole.mp4").read_bytes()[:2500])
    (folder / "folder").mkdir()


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (1, "--source missing.mp4", "missing.mp4 does not exist"),
        (1, "--source empty.mp4", "empty.mp4 is empty"),
        (1, "--source text.mp4", "no video that can be read"),
        (1, "--source noise.avi", "no video that can be read"),
        (1, "--source cut.mp4", "no video that can be read"),
        (1, "--source folder", "is a folder"),
        (1, "--source 97", "camera"),
        (1, "--source /dev/video97", "camera"),
        (1, "--source synthetic:never", "is not understood"),
        (1, "--source=", "no source was given"),
        (2, "--source whole.mp4 --gates shut", "--gates is 'shut'"),
        (2, "--source whole.mp4 --pace slow", "--pace is 'slow'"),
        (2, "--source whole.mp4 --drop-policy newest", "--drop-policy is 'newest'"),
        (2, "--source whole.mp4 --engine tensorflow", "unknown engine"),
        (2, "--source whole.mp4 --threads -2", "threads is -2"),
        (2, "--source whole.mp4 --event-confidence 1", "--event-confidence is 1"),
        # said before engines are built, which takes minutes
        (2, "--source whole.mp4 --engine tensorrt --max-skip 0", "--max-skip is 0"),
        (2, "--source whole.mp4 --max-skip inf", "--max-skip is inf"),
        (2, "--source whole.mp4 --max-frame-age -1", "--max-frame-age is -1"),
        (2, "--source whole.mp4 --stall-timeout nan", "--stall-timeout is nan"),
        (2, "--source whole.mp4 --duration 0", "--duration is 0"),
        (2, "--source whole.mp4 --video nowhere/a.mp4", "nowhere"),
        (2, "--source whole.mp4 --timeline nowhere/a.png", "nowhere"),
        (2, "--source whole.mp4 --report nowhere/a.json", "nowhere"),
        (2, "--source whole.mp4 --video folder", "folder"),
        (2, "--source whole.mp4 --video a.txt", "a.txt"),
        (2, "--source whole.mp4 --timeline folder", "folder"),
        (2, "--source whole.mp4 --timeline a.gif", "a.gif"),
        (2, "--source whole.mp4 --report folder", "folder"),
        (2, "--source whole.mp4 --window", "no window can be shown"),
        (2, "--source whole.mp4 --budget-ms 0", "--budget-ms is 0"),
        (2, "--source whole.mp4 --metrics nowhere/m.prom", "nowhere"),
        (2, "--source whole.mp4 --metrics 99999", "cannot listen"),
        (2, "--source whole.mp4 --source whole.mp4 --timeline a.png", "--timeline shows one source"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(place, tiny_bundle, code, arguments, says):
    make_bad_files(place.work)
    assert says in place.refuses(code, "run", tiny_bundle, "--json", *arguments.split())


# ---- what it prints -----------------------------------------------------------------------------


def test_json_is_one_object_a_decision_and_a_summary(place, tiny_bundle, real_clip):
    """With the annotated video, timeline and report that were asked for, and nothing else."""
    done = place.run(
        "run",
        tiny_bundle,
        "--source",
        real_clip,
        "--json",
        "--duration",
        "4",
        "--report",
        "report.json",
        "--timeline",
        "timeline.png",
        "--video",
        "annotated.mp4",
    )
    assert done.returncode == 0, done.stderr
    decisions, summary = parse(done.stdout)
    bundle = Bundle.open(tiny_bundle)
    assert len(decisions) == 8
    for k, decision in enumerate(decisions):
        assert set(decision) >= DECISION
        assert decision["t_ns"] == (k + 1) * 500_000_000
        assert decision["ready"] == (k >= 3)
        assert decision["label"] == "untrained"
        assert decision["trained"] is False
        assert set(decision["scores"]) == set(bundle.spec.labels)
        assert set(decision["experts_fired"]) == set(STREAMS)
        assert set(decision["ages_ms"]) == {"spatial", "hybrid", "temporal"}
        assert set(decision["skipped"]) == {n for n, runs in decision["experts_fired"].items() if runs == 0}
        assert decision["macs"] > 0
    for name in STREAMS:
        assert (
            summary["experts_fired"][name] == sum(d["experts_fired"][name] for d in decisions)
            or name != "analyzer"
        )
    assert summary["trained"] is False
    assert summary["random_weights"] is True
    frames = summary["frames"]
    assert frames["read"] == frames["delivered"] + sum(frames["dropped"].values())
    for counts in summary["streams"].values():
        assert (
            counts["delivered"] == frames["delivered"] == counts["sampled"] + sum(counts["skipped"].values())
        )
    assert json.loads((place.work / "report.json").read_text()) == summary
    assert {p.name for p in place.work.iterdir()} == {"report.json", "timeline.png", "annotated.mp4"}
    assert (place.work / "timeline.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def eventful_bundle(tiny_bundle, tmp_path_factory):
    """The tiny bundle as if it were trained, and so easily convinced that every stream has an event."""
    import msgspec

    folder = tmp_path_factory.mktemp("eventful") / "eventful.vpbundle"
    shutil.copytree(tiny_bundle, folder)
    manifest = Bundle.open(folder).manifest
    eager = EventSpec(enter=0.05, leave=0.01, least_score=0.0, least_peak=0.0)
    spec = msgspec.structs.replace(manifest.spec, events=eager)
    msgspec.structs.replace(manifest, trained=True, spec=spec).write(folder)
    return folder


def test_events_are_objects_between_the_decisions_and_counted(place, eventful_bundle):
    done = place.run("run", eventful_bundle, "--source", "synthetic:6:160x120@25", "--json")
    assert done.returncode == 0, done.stderr
    rows, summary = parse(done.stdout)
    events = [row["event"] for row in rows if "event" in row]
    decisions = [row for row in rows if "event" not in row]
    assert [e["state"] for e in events] == ["onset", "offset"]
    onset, offset = events
    ready = [d["t_ns"] for d in decisions if d["ready"]]
    assert onset["onset_ns"] == offset["onset_ns"] == ready[0]
    assert rows[rows.index({"event": onset}) - 1]["t_ns"] == onset["told_ns"] == ready[1]
    assert offset["offset_ns"] == ready[-1]
    assert summary["events"] == {offset["label"]: 1}
    told = place.run("run", eventful_bundle, "--source", "synthetic:6:160x120@25").stderr
    assert "| event " in told
    assert f"{offset['label']} 1" in told
    surer = str((1 + offset["peak"]) / 2)
    done = place.run(
        "run", eventful_bundle, "--source", "synthetic:6:160x120@25", "--json", "--event-confidence", surer
    )
    rows, summary = parse(done.stdout)
    assert not any("event" in row for row in rows)
    assert not summary["events"]


def test_several_sources_in_one_process_say_whose_they_are(place, eventful_bundle):
    """With metrics in a file, and a budget that is far too small."""
    sources = ["--source", "synthetic:5:160x120@25", "--source", "synthetic:4:96x64@25"]
    done = place.run(
        "run", eventful_bundle, *sources, "--json", "--metrics", "m.prom", "--budget-ms", "0.01", "--report", "r.json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    names = sorted({row["source"] for row in rows})
    assert len(names) == 2
    summaries = {row["source"]: row["summary"] for row in rows if "summary" in row}
    assert sorted(s["frames"]["delivered"] for s in summaries.values()) == [100, 125]
    for name, summary in summaries.items():
        decisions = [row for row in rows if row["source"] == name and "t_ns" in row]
        assert len(decisions) == summary["decisions"]
        assert summary["gates"]["shed"]["spatial"] > 0
        assert sum(summary["events"].values()) == 1
        assert summary["latency_ms"]["1"] > 0
    assert json.loads((place.work / "r.json").read_text()) == summaries
    metrics = (place.work / "m.prom").read_text()
    for name in names:
        assert f'vidprism_edge_shed_decisions_total{{source="{name}",expert="spatial"}}' in metrics


def test_metrics_are_served_on_this_machine_alone(tmp_path):
    import urllib.error
    import urllib.request

    from vidprism_edge.cli.metrics import MetricsOutput

    with MetricsOutput("0") as output:
        output.update(lambda: "a 1\n")
        output.update(lambda: "never asked for within a second\n")
        address = f"http://127.0.0.1:{output.port}"
        with urllib.request.urlopen(f"{address}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert answer.read() == b"a 1\n"
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}/else")
        output.update(lambda: "a 2\n", last=True)
        with urllib.request.urlopen(f"{address}/metrics") as answer:
            assert answer.read() == b"a 2\n"


def test_people_see_a_table_that_says_untrained(place, tiny_bundle):
    done = place.run("run", tiny_bundle, "--source", "synthetic:3:160x120@25")
    assert done.returncode == 0, done.stderr
    assert "untrained" in done.stderr
    assert done.stdout == ""
    assert not tree(place.work)


def test_damaged_pictures_are_counted_on_the_way_to_the_summary(place, tiny_bundle):
    """MJPEG pictures stand alone: three destroyed ones are exactly three losses and two resets."""
    import re

    write_video(place.work / "a.avi", [scene(k) for k in range(100)], "mjpeg")
    data = bytearray((place.work / "a.avi").read_bytes())
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", data)]
    for number in (70, 71, 85):
        start, end = starts[number] + 2, data.index(b"\xff\xd9", starts[number])
        data[start:end] = bytes(end - start)
    (place.work / "a.avi").write_bytes(data)
    done = place.run("run", tiny_bundle, "--source", "a.avi", "--json")
    assert done.returncode == 0, done.stderr
    _, summary = parse(done.stdout)
    assert summary["frames"] == {"read": 100, "delivered": 97, "dropped": {"corrupt": 3}}
    assert summary["resets"] == {"start": 1, "corrupt": 2}


def test_a_truncated_file_is_streamed_to_where_it_ends(place, tiny_bundle):
    write_video(place.work / "a.mkv", [scene(k) for k in range(80)])
    data = (place.work / "a.mkv").read_bytes()
    (place.work / "a.mkv").write_bytes(data[: len(data) * 7 // 10])
    done = place.run("run", tiny_bundle, "--source", "a.mkv", "--json")
    assert done.returncode == 0, done.stderr
    decisions, summary = parse(done.stdout)
    assert 30 < summary["frames"]["delivered"] < 75
    assert decisions


def test_pictures_of_one_pixel_are_streamed(place, tiny_bundle):
    write_video(place.work / "a.avi", [np.full((1, 1, 3), k, np.uint8) for k in range(30)], "ffv1")
    done = place.run("run", tiny_bundle, "--source", "a.avi", "--json")
    assert done.returncode == 0, done.stderr
    decisions, _ = parse(done.stdout)
    assert decisions[-1]["partial"]


# ---- it keeps to itself -------------------------------------------------------------------------


def test_it_runs_without_a_network_and_writes_nothing(tiny_bundle, place, real_clip):
    """In a network namespace with no interface: what needs the network would fail."""
    unshare = shutil.which("unshare")
    probe = [unshare or "unshare", "-rn", "true"]
    if unshare is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces here: unshare -rn is not permitted")
    before = tree(place.root)
    inside = {path: path.stat().st_mtime_ns for path in tiny_bundle.rglob("*")}
    environment = {n: v for n, v in os.environ.items() if "TELEMETRY" not in n and n != "CI"}
    command = [
        unshare,
        "-rn",
        sys.executable,
        "-m",
        "vidprism_edge.cli.main",
        "run",
        tiny_bundle,
        "--source",
        real_clip,
    ]
    done = subprocess.run(
        [*map(str, command), "--json", "--duration", "3"],
        cwd=place.work,
        env={**environment, **place.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert len(parse(done.stdout)[0]) == 6
    assert tree(place.root) == before
    assert {path: path.stat().st_mtime_ns for path in tiny_bundle.rglob("*")} == inside


#: Stands before the command: any name that is looked up and any address that is connected to ends it.
WATCHED = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg", "socket.bind"):
        sys.stderr.write(f"NETWORK {event} {arguments}\\n")
        raise RuntimeError("the network was used")
sys.addaudithook(refuse)
from vidprism_edge.cli.main import main
sys.exit(main())
"""


def sockets(pid: int) -> list[str]:
    """Open sockets of a process and its threads that reach beyond the machine's own pipes."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.append(target[8:-1])
    inodes = set()
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        inodes |= {line.split()[9] for line in lines}
    return [inode for inode in found if inode in inodes]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_sends_nothing(place, tiny_bundle):
    """No socket call in Python, and no network socket open at any moment, native libraries included."""
    environment = {n: v for n, v in os.environ.items() if "TELEMETRY" not in n and n != "CI"}
    arguments = [
        "run",
        str(tiny_bundle),
        "--source",
        "synthetic:4:320x240@25",
        "--json",
        "--pace",
        "realtime",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, *arguments],
        cwd=place.work,
        env={**environment, **place.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen: set[str] = set()
    while process.poll() is None:
        try:
            seen.update(sockets(process.pid))
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "NETWORK" not in err
    assert not seen
    assert len(parse(out)[0]) >= 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [2, 3, 5])
def test_interrupted_at_any_moment_it_still_adds_up(place, tiny_bundle, number, after):
    """As fast as it goes, so that the signal meets any line; the summary is made and the exit code is 130."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vidprism_edge.cli.main",
            "run",
            str(tiny_bundle),
            "--source",
            "synthetic:999:320x240@25",
            "--json",
            "--video",
            "a.mp4",
            "--gates",
            "open",
        ],
        cwd=place.work,
        env={**os.environ, **place.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(after):
        process.stdout.readline()
    time.sleep(0.013 * after)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert process.returncode == 130
    _, summary = parse("\n".join(line for line in out.splitlines() if line))
    frames = summary["frames"]
    assert frames["read"] == frames["delivered"] + sum(frames["dropped"].values())
    for counts in summary["streams"].values():
        assert counts["delivered"] == frames["delivered"]
    assert [p.name for p in place.work.iterdir()] == ["a.mp4"]
    import av

    with av.open(str(place.work / "a.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) > 10
