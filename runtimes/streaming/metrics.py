"""A run as Prometheus reads it: text exposition format 0.0.4, one sample a line, counters and gauges alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vidprism_edge.runtimes.streaming.prediction import Summary

_PREFIX = "vidprism_edge_"
#: name → (type, help)
_FAMILIES = {
    "frames_total": ("counter", "Frames by what became of them."),
    "frames_dropped_total": ("counter", "Frames dropped, by reason."),
    "resets_total": ("counter", "Times that the stream started anew, by reason."),
    "decisions_total": ("counter", "Decisions, computed or held (repeated while nothing moved)."),
    "macs_total": ("counter", "Multiply-accumulates spent."),
    "macs_always_on_total": ("counter", "Multiply-accumulates with every gate open."),
    "expert_runs_total": ("counter", "Runs of each expert."),
    "grid_points_total": (
        "counter",
        "Grid points: computed, exact (the same picture) or approximate (skipped).",
    ),
    "points_skipped_total": ("counter", "Grid points that were not sampled, by reason."),
    "gate_open_decisions_total": ("counter", "Decisions at which a gate was open, by what opened it."),
    "token_age_ms": ("gauge", "Age of an expert's newest token at decisions."),
    "shed_decisions_total": (
        "counter",
        "Decisions for which the latency budget took something from an expert.",
    ),
    "shadow_checks_total": ("counter", "Windows that ran always-on and were compared."),
    "shadow_macs_total": ("counter", "Multiply-accumulates of shadow checks, in no other count."),
    "shadow_agreed_total": ("counter", "Shadow checks with the same label."),
    "shadow_distance": ("gauge", "Mean distance between gated and always-on scores."),
    "shadow_drift": ("gauge", "1 while shadow checks say that the gates no longer fit."),
    "events_total": ("counter", "Events that ended, by label."),
    "latency_ms": ("gauge", "Age of decisions when they were made."),
}


def write_metrics(summaries: Mapping[str, Summary]) -> str:
    """The state of every stream, by the name of its source."""
    samples: dict[str, list[str]] = {name: [] for name in _FAMILIES}
    for source, summary in summaries.items():
        for family, labels, value in _collect(summary):
            told = ",".join(f'{k}="{_escape(v)}"' for k, v in (("source", source), *labels.items()))
            samples[family].append(f"{_PREFIX}{family}{{{told}}} {value:.10g}")
    lines = []
    for family, (kind, text) in _FAMILIES.items():
        if samples[family]:
            lines += [
                f"# HELP {_PREFIX}{family} {text}",
                f"# TYPE {_PREFIX}{family} {kind}",
                *samples[family],
            ]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _by(
    family: str, key: str, counts: Mapping[str, float], **more: str
) -> list[tuple[str, dict[str, str], float]]:
    return [(family, {**more, key: name}, value) for name, value in counts.items()]


def _collect(summary: Summary) -> Iterable[tuple[str, dict[str, str], float]]:
    """(family, labels, value) of one stream."""
    frames, gates = summary.frames, summary.gates
    yield from _by("frames_total", "what", {n: frames[n] for n in ("read", "delivered")})
    yield from _by("frames_dropped_total", "reason", frames["dropped"])
    yield from _by("resets_total", "reason", summary.resets)
    yield "macs_total", {}, summary.macs
    yield "macs_always_on_total", {}, summary.macs_always_on
    yield from _by("events_total", "label", summary.events)
    yield from _by("latency_ms", "quantile", summary.latency_ms)
    decisions = {"computed": gates["decisions_computed"], "held": gates["decisions_held"]}
    yield from _by("decisions_total", "how", decisions)
    yield from _by("shed_decisions_total", "expert", gates["shed"])
    for name, expert in gates["experts"].items():
        yield "expert_runs_total", {"expert": name}, expert["runs"]
        points = {how: expert[how] for how in ("computed", "exact", "approximate")}
        yield from _by("grid_points_total", "how", points, expert=name)
        yield from _by("points_skipped_total", "reason", expert["skipped"], expert=name)
        yield from _by("gate_open_decisions_total", "cause", expert["causes"], expert=name)
        ages = {"0.5": expert["age_p50_ms"], "0.99": expert["age_p99_ms"], "1": expert["age_max_ms"]}
        known = {q: age for q, age in ages.items() if age is not None}
        yield from _by("token_age_ms", "quantile", known, expert=name)
    shadow = gates["shadow"]
    yield "shadow_checks_total", {}, shadow["checks"]
    yield "shadow_macs_total", {}, shadow["macs"]
    yield "shadow_agreed_total", {}, shadow["agreed"]
    if shadow["mean_distance"] is not None:
        yield "shadow_distance", {}, shadow["mean_distance"]
    yield "shadow_drift", {}, float(bool(shadow["warning"]))
