"""Synthetic predictions: a scene that is still, then moves, then is still again."""

from __future__ import annotations

import math
from typing import Any

from vidprism_edge.runtimes.streaming.prediction import Prediction, StreamCounts, Summary

EXPERTS = ("analyzer", "spatial", "hybrid", "temporal")
FULL_HZ = {"analyzer": 5.0, "spatial": 2.0, "hybrid": 5.0, "temporal": 15.0}
FLOOR_HZ = {"analyzer": 1.0, "spatial": 0.5, "hybrid": 1.0, "temporal": 0.0}
MACS = {"analyzer": 9_000_000, "spatial": 390_000_000, "hybrid": 60_000_000, "temporal": 25_000_000}
ALWAYS_ON = sum(round(MACS[name] * rate * 0.5) for name, rate in FULL_HZ.items())
HOP_NS = 500_000_000


def prediction(**changes: Any) -> Prediction:
    """Return one prediction of a moving scene, with ``changes``."""
    values: dict[str, Any] = {
        "t_ns": 12_500_000_000,
        "ready": True,
        "partial": False,
        "label": "wave",
        "scores": {"swipe_left": 0.11, "swipe_right": 0.2, "wave": 0.62, "clap": 0.05, "throw": 0.02},
        "experts_fired": {"analyzer": 3, "spatial": 0, "hybrid": 2, "temporal": 8},
        "replayed": 0,
        "macs": 512_000_000,
        "ages_ms": {"analyzer": 100.0, "spatial": 1400.0, "hybrid": 120.0, "temporal": 33.0},
        "skipped": {"spatial": "still picture"},
        "gates": {"analyzer": True, "spatial": False, "hybrid": True, "temporal": True},
        "rates_hz": {"analyzer": 5.0, "spatial": 0.5, "hybrid": 5.0, "temporal": 15.0},
        "boxes": {
            "spatial": (300, 60, 224, 224),
            "hybrid": (300, 60, 224, 224),
            "temporal": (340, 120, 160, 160),
        },
        "epoch": 3,
        "trained": True,
        "stages_ms": {"sampler": 1.2, "analyzer": 2.0, "spatial": 11.0, "fusion": 3.1},
        "fired_ns": {
            "analyzer": (12_100_000_000,),
            "spatial": (),
            "hybrid": (),
            "temporal": (12_480_000_000,),
        },
    }
    return Prediction(**{**values, **changes})


def _moving(t_s: float) -> bool:
    return math.sin(t_s * 0.9) + 0.6 * math.sin(t_s * 0.37 + 1) > 0.1


def stream(
    seconds: float, labels: int = 5, *, trained: bool = True, window_s: float = 2.0
) -> list[Prediction]:
    """Return the predictions of ``seconds`` of video, one every half second."""
    names = ("swipe_left", "swipe_right", "wave", "clap", "throw")
    names += tuple(f"two_hand_gesture_{n}" for n in range(labels - len(names)))
    found: list[Prediction] = []
    last = dict.fromkeys(EXPERTS, -10.0)
    epoch, was_moving = 0, True
    for step in range(1, int(seconds / 0.5) + 1):
        end = step * 0.5
        moving = end <= window_s or _moving(end)
        epoch += moving and not was_moving
        replayed = 17 if moving and not was_moving else 0
        was_moving = moving
        rates = FULL_HZ if moving else FLOOR_HZ
        fired: dict[str, tuple[int, ...]] = {}
        for name in EXPERTS:
            times = []
            if rates[name]:
                points = [k / FULL_HZ["temporal"] for k in range(round((end - 0.5) * 15), round(end * 15))]
                for point in points:
                    if point - last[name] >= 1 / rates[name] - 1e-6:
                        last[name] = point
                        times.append(round(point * 1e9))
            fired[name] = tuple(times)
        runs = {name: len(times) + (replayed if name == "temporal" else 0) for name, times in fired.items()}
        reason = dict.fromkeys(EXPERTS, "rate" if moving else "still picture")
        logits = [2.5 * math.sin(end * (0.31 + 0.13 * n) + n * 1.7) for n in range(len(names))]
        top = [math.exp(v) for v in logits]
        scores = {name: v / sum(top) for name, v in zip(names, top, strict=True)}
        box = (40 + int(20 * math.sin(end)), 30, 224, 224) if moving else None
        found.append(
            Prediction(
                t_ns=round(end * 1e9),
                ready=end >= window_s,
                partial=False,
                label=max(scores, key=lambda name: scores[name]),
                scores=scores,
                experts_fired=runs,
                replayed=replayed,
                macs=sum(MACS[name] * count for name, count in runs.items()),
                ages_ms={name: (end - last[name]) * 1e3 for name in EXPERTS},
                skipped={name: reason[name] for name in EXPERTS if not runs[name]},
                gates=dict.fromkeys(EXPERTS, moving),
                rates_hz=dict(rates),
                boxes={"spatial": box, "hybrid": box, "temporal": box},
                epoch=epoch,
                trained=trained,
                stages_ms={"sampler": 0.8, "analyzer": 1.9, "fusion": 2.2},
                fired_ns=fired,
            )
        )
    return found


def summary(**changes: Any) -> Summary:
    """Return the summary of a run whose counts add up, with ``changes``."""
    values: dict[str, Any] = {
        "frames": {"read": 375, "delivered": 372, "dropped": {"corrupt": 2, "overrun": 1}},
        "streams": {
            "spatial": StreamCounts(
                delivered=372, sampled=20, repeated=2, reset=1, skipped={"rate": 300, "still picture": 52}
            ),
            "temporal": StreamCounts(delivered=372, sampled=170, skipped={"rate": 180, "still picture": 22}),
        },
        "resets": {"start": 1, "corrupt": 2},
        "decisions": 25,
        "ready": 21,
        "experts_fired": {"analyzer": 40, "spatial": 20, "hybrid": 44, "temporal": 204},
        "replayed": 34,
        "macs": 15_900_000_000,
        "macs_always_on": 25 * ALWAYS_ON,
        "video_s": 12.5,
        "wall_s": 5.2,
        "stages_ms": {"decode": 900.0, "sampler": 310.0, "spatial": 240.0, "fusion": 80.0},
        "trained": False,
        "random_weights": False,
    }
    return Summary(**{**values, **changes})
