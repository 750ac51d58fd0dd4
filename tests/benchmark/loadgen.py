"""MLCommons LoadGen as an oracle, in a process of its own: what it estimates from latencies that it measured itself.

LoadGen takes no latencies; it times a system under test. Here that system waits a random time and answers, LoadGen's
trace says what it measured of each query, and its summary what early stopping makes of them.

    echo "90 70 1 0" | python loadgen.py FOLDER     # percentile, queries, seed, whether multi-stream
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg

LATENCY = re.compile(r'"query_seq":(\d+).*?"complete_ns":(\d+)')
ESTIMATE = re.compile(r"Early stopping ([\d.]+)th percentile estimate: (\d+)")
LEAST = re.compile(r"Need to process at least (\d+) queries for early stopping")


def settings(percentile: float, count: int, multi: bool) -> Any:
    s = lg.TestSettings()
    s.scenario = lg.TestScenario.MultiStream if multi else lg.TestScenario.SingleStream
    s.mode = lg.TestMode.PerformanceOnly
    s.min_query_count = s.max_query_count = count
    s.min_duration_ms = 0
    s.single_stream_expected_latency_ns = s.multi_stream_expected_latency_ns = 10_000
    s.single_stream_target_latency_percentile = s.multi_stream_target_latency_percentile = percentile / 100
    s.multi_stream_samples_per_query = 8
    return s


def run(percentile: float, count: int, seed: int, folder: Path, multi: bool = False) -> dict[str, Any]:
    """One run → its latencies (ns, of queries), LoadGen's estimate and the least number of queries that it names."""
    draw = random.Random(seed)
    kind = seed % 3

    def wait_ns() -> float:
        if kind == 0:
            return draw.expovariate(1 / 3000)
        if kind == 1:
            return draw.choice((0, 0, 0, 4000))  # two humps: many near ties
        return draw.paretovariate(2) * 1000  # a heavy tail

    def issue(samples: Any) -> None:
        end = time.perf_counter_ns() + min(wait_ns(), 50_000)
        while time.perf_counter_ns() < end:
            pass
        lg.QuerySamplesComplete([lg.QuerySampleResponse(s.id, 0, 0) for s in samples])

    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    log = lg.LogSettings()
    log.log_output, log.enable_trace = output, True
    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(64, 64, lambda _: None, lambda _: None)
    lg.StartTestWithLogSettings(sut, qsl, settings(percentile, count, multi), log)
    lg.DestroyQSL(qsl)
    lg.DestroySUT(sut)
    latencies: dict[int, int] = {}
    for query, done in LATENCY.findall((folder / "mlperf_log_trace.json").read_text()):
        latencies[int(query)] = max(
            int(done), latencies.get(int(query), 0)
        )  # a query ends with its last sample
    summary = (folder / "mlperf_log_summary.txt").read_text()
    found, least = ESTIMATE.search(summary), LEAST.search(summary)
    return {
        "percentile": percentile,
        "latencies_ns": list(latencies.values()),
        "estimate_ns": int(found[2]) if found else None,
        "least": int(least[1]) if least else None,
    }


def main() -> None:
    """Read one request a line, ``percentile count seed multi``, and answer each with a JSON object."""
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        percentile, count, seed, multi = line.split()
        print(json.dumps(run(float(percentile), int(count), int(seed), folder, multi == "1")), flush=True)


if __name__ == "__main__":
    main()
