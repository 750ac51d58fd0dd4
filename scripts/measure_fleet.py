"""Several cameras through one process: age of the decisions, drops and memory, beside one camera at equal load.

    python scripts/measure_fleet.py BUNDLE VIDEO [--cameras 4] [--seconds 45] [--threads 1] [--together]

VIDEO is rewritten as 720p30 and played in real time, newest frame first, by `vidprism-edge run`. Three runs:
all cameras in one process; one camera in a process of its own while the others run in a second one, so that the machine
does the same work in all (*equal load*: what sharing a process costs is left); and one camera alone. Memory takes
minutes to settle, because the file is opened again every ten seconds: `--together --seconds 200` measures only that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from measure_overhead import rewrite

#: The first part of a run, in which memory is still being taken.
SETTLE_SHARE = 0.6


@dataclass(slots=True)
class Run:
    """One process with some cameras."""

    process: subprocess.Popen[bytes]
    report: Path
    rss: list[tuple[float, int]]

    def summaries(self) -> list[dict[str, Any]]:
        """The summary of each camera."""
        found: dict[str, Any] = json.loads(self.report.read_bytes())
        return [found] if "frames" in found else list(found.values())

    def slope(self) -> float:
        """Growth of the resident memory, MiB a minute, after the run has settled."""
        settled = np.array(self.rss[int(len(self.rss) * SETTLE_SHARE) :], np.float64)
        return float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0]) * 60 / 2**20


def start(bundle: Path, video: Path, cameras: int, seconds: float, threads: int, report: Path) -> Run:
    """Begin to play the video as so many cameras."""
    command = [sys.executable, "-m", "vidprism_edge.cli.main", "run", str(bundle)]
    command += ["--source", str(video)] * cameras
    command += ["--loop", "--pace", "realtime", "--drop-policy", "drop-oldest", "--no-window"]
    command += ["--duration", str(seconds), "--threads", str(threads), "--report", str(report)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Run(process, report, [])


def watch(runs: list[Run]) -> None:
    """Note the memory of the processes twice a second until all have ended."""
    begin = time.monotonic()
    while any(r.process.poll() is None for r in runs):
        for run in runs:
            try:
                rss = psutil.Process(run.process.pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue
            if rss:
                run.rss.append((time.monotonic() - begin, rss))
        time.sleep(0.5)
    for run in runs:
        if run.process.returncode:
            raise SystemExit(f"{' '.join(map(str, run.process.args))} exited with {run.process.returncode}")  # type: ignore[arg-type,union-attr]


def describe(what: str, run: Run) -> list[str]:
    """A row a camera."""
    rows = []
    for number, s in enumerate(run.summaries(), 1):
        ages, frames = s["latency_ms"], s["frames"]
        dropped = ", ".join(f"{reason} {n}" for reason, n in frames["dropped"].items()) or "0"
        rows.append(
            f"| {what} | {number} | {s['decisions']} | {ages['0.5']:.0f} | {ages['0.99']:.0f} | {ages['1']:.0f} | "
            f"{frames['read']} | {dropped} | {run.rss[-1][1] / 2**20:.0f} | {run.slope():+.1f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--together", action="store_true", help="only all cameras in one process")
    a = parser.parse_args()
    if a.cameras < 2:
        parser.error("--cameras must be at least 2")
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "large.mp4"
        rewrite(a.video, video, 1280, 720, 300)

        def begin(name: str, cameras: int) -> Run:
            return start(a.bundle, video, cameras, a.seconds, a.threads, Path(folder) / f"{name}.json")

        together = begin("together", a.cameras)
        watch([together])
        rows = describe(f"{a.cameras} in one process", together)
        if not a.together:
            beside = [begin("one", 1), begin("rest", a.cameras - 1)]
            watch(beside)
            alone = begin("alone", 1)
            watch([alone])
            rows += describe(f"1, {a.cameras - 1} in another process", beside[0])
            rows += describe("1 alone", alone)
        print(
            "| run | camera | decisions | age p50, ms | p99 | largest | frames | dropped | MiB | MiB a minute |"
        )
        print("|" + "---|" * 10)
        print("\n".join(rows))
        if a.together:
            return
        equal = beside[0].summaries()[0]["latency_ms"]["0.99"]
        worst = max(s["latency_ms"]["0.99"] for s in together.summaries())
        print(f"\nLargest p99 in one process / one camera at equal load: {worst / equal:.2f}")


if __name__ == "__main__":
    main()
