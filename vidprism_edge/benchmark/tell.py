"""A result in sentences: what the table on the terminal and the Markdown report both say below their numbers."""

from __future__ import annotations

from typing import Any

import msgspec

from vidprism_edge.benchmark.request import PROFILES, SCENARIOS, Request


def as_request(result: dict[str, Any]) -> Request:
    """The request of a result, as measured or as read from a file."""
    return msgspec.convert(msgspec.to_builtins(result["request"]), Request)


def tell_headline(result: dict[str, Any]) -> str:
    """The scenario's one number."""
    headline, request = result["headline"], as_request(result)
    name = f"{request.scenario}: {headline['name']}"
    if headline["value"] is None:
        queries = PROFILES[request.profile].queries[request.scenario]
        return f"{name}: insufficient, needs {headline['needs']} queries (profile {request.profile} has {queries})"
    return f"{name}: {headline['value']:.2f} {headline['unit']}"


def tell_interval(result: dict[str, Any]) -> str:
    """Where a repetition is expected, for the statistics that the samples carry, and what that is known from."""
    told = [
        f"{name} {low:.2f} to {high:.2f}"
        for name, (low, high) in result["latency_ms"].get("intervals", {}).items()
        if name in ("mean", "p50", "p90", "p99")
    ]
    if not told:
        return "99 % intervals: too few samples"
    medians = [part["p50"] for part in result.get("parts", [])]
    if len(medians) < 2:
        known = "of one process: it knows nothing of restarts, profile normal does"
    else:
        known = f"from {len(medians)} processes with medians of {min(medians):.2f} to {max(medians):.2f}"
    return f"99 % of repeated runs (ms): {', '.join(told)}; {known}"


def tell_scenario(result: dict[str, Any]) -> str | None:
    """What a scenario alone measures."""
    extra = result.get(as_request(result).scenario)
    if not extra:
        return None
    if "decisions_per_s" in extra:
        return (
            f"{extra['workers']} streams with {extra['threads_a_graph']} thread a graph: {extra['frames_per_s']:.0f} "
            f"frames/s, {extra['video_s_per_s']:.1f} s of video a second"
        )
    dropped = ", ".join(f"{n} {reason}" for reason, n in extra["dropped"].items()) or "none"
    return (
        f"{result['decisions']} of {extra['decisions_due']} decisions due, {extra['missed']} older than the deadline "
        f"of {extra['deadline_ms']:g} ms; of {extra['captured']} pictures dropped: {dropped}"
    )


def tell_start(result: dict[str, Any]) -> str:
    """Loading, the first query, and the start of a process."""
    load, warmup = result["load"], result["warmup"]
    text = f"loaded in {load['total_ms']:.0f} ms, first query {warmup['first_ms']:.0f} ms"
    starts = load["starts"]
    if not starts:
        return text
    if "reason" in starts:
        return f"{text}; start of a process: {starts['reason']}"
    cold, warm = starts["cold"], starts["warm"]
    note = "" if starts["cache_dropped"] else " (files may have been cached)"
    return (
        f"{text}; a process from start to end: cold {cold['process_ms']:.0f} ms{note}, "
        f"warm {warm['process_ms']:.0f} ms"
    )


def tell_energy(result: dict[str, Any]) -> str:
    """Energy a query, or why there is none."""
    energy = result["energy"]
    if energy["value"] is None:
        return f"energy: not measured ({energy['reason']})"
    return (
        f"energy: {energy['value']:.3g} J a query, {energy['average_w']:.1f} W on average "
        f"({energy['method']}, {energy['covers']})"
    )


def tell_device(result: dict[str, Any]) -> str:
    """The device in a line."""
    device = result["device"]
    parts = [device["board"], device["cpu"] or device["soc"], f"{device['cores']} cores"]
    parts += [f"JetPack {device['jetpack']}" if device["jetpack"] else None, device["gpu"]]
    parts += [f"power mode {device['power_mode']}" if device["power_mode"] else None]
    parts += [f"governor {device['governor']}" if device["governor"] else None]
    parts += ["a virtual machine: no clocks or temperatures" if device["virtual"] else None]
    return ", ".join(filter(None, parts))


def tell_fallback(result: dict[str, Any]) -> str | None:
    """Which nodes did not run on the processor that was asked for."""
    accelerator = result["accelerator"]
    if accelerator["reason"]:
        return str(accelerator["reason"])
    told = [
        f"{len(nodes)} of {graph} on {device} ({', '.join(sorted({node.split()[0] for node in nodes}))})"
        for graph, placed in accelerator["fell_back"].items()
        for device, nodes in placed.items()
    ]
    if not told:
        return None
    return (
        f"{accelerator['share']:.0%} of the nodes ran on {accelerator['asked']}; fell back: {'; '.join(told)}"
    )


def tell_notes(result: dict[str, Any]) -> list[str]:
    """Everything that a reader needs beside the numbers."""
    request, memory = as_request(result), result["memory"]
    share = result["macs_per_decision"] / result["macs_always_on"]
    used = sorted({device for nodes in result["accelerator"]["nodes"].values() for device in nodes})
    notes = [
        tell_headline(result),
        tell_interval(result),
        tell_scenario(result),
        f"{result['queries']} queries, {result['macs_per_decision'] / 1e9:.2f} GMAC a decision ({share:.0%} of "
        f"always-on), peak memory {memory['peak_bytes'] / 1e6:.0f} MB; state is kept between queries, as it must be",
        tell_fallback(result),
        tell_start(result),
        tell_energy(result),
        f"{request.engine} in {', '.join(sorted(set(result['precisions'].values())))} on "
        f"{', '.join(used) or 'a processor it does not name'}, {tell_device(result)}; "
        f"source {request.source}",
        f"measuring itself took {result['overhead']['share']:.2%} of the processor time",
        f"rule: {SCENARIOS[request.scenario].rule}",
    ]
    if result["bundle"]["random_weights"]:
        notes.append("random weights: for latency only")
    if not result["valid"]:
        notes.append(f"NOT VALID: {'; '.join(result['reasons'])}")
    return [note for note in notes if note]
