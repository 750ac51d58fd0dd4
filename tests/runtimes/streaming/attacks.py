"""What weather, light, cameras and people do to a gate, as changes to real frames; and a player without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np

from vidprism_edge.runtimes.streaming.gates import GateSettings
from vidprism_edge.runtimes.streaming.policy import ContentPolicy
from vidprism_edge.runtimes.streaming.sampler import StreamSampler
from vidprism_edge.spec import STREAMS, ModelSpec

Picture = np.ndarray
#: (picture uint8 [H, W, 3], time in s, random numbers) → picture
Attack = Callable[[Picture, float, np.random.Generator], Picture]
SECOND = 10**9


def _clip(image: np.ndarray) -> Picture:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def sensor_noise(sigma: float) -> Attack:
    return lambda image, _, rng: _clip(image + rng.standard_normal(image.shape, np.float32) * sigma)


def lamp(image: Picture, t_s: float, rng: np.random.Generator) -> Picture:
    """A lamp that is switched every 1.3 s, with a camera's noise."""
    lit = image * 1.3 + 12.0 if int(t_s / 1.3) % 2 else image
    return sensor_noise(1.5)(lit, t_s, rng)


def infrared(image: Picture, t_s: float, rng: np.random.Generator) -> Picture:
    """After 4 s the camera is in its night mode: grey, red counts most, more noise."""
    if t_s < 4.0:
        return sensor_noise(1.5)(image, t_s, rng)
    grey = image @ np.array([0.1, 0.2, 0.7])
    return sensor_noise(4.0)(np.repeat(grey[..., None], 3, axis=2), t_s, rng)


def dawn(image: Picture, t_s: float, rng: np.random.Generator) -> Picture:
    return sensor_noise(1.5)(image * min(1.0, 0.45 + 0.04 * t_s), t_s, rng)


def rain(image: Picture, _: float, rng: np.random.Generator) -> Picture:
    wet = image.astype(np.int16)
    for x, y in zip(rng.integers(0, image.shape[1], 80), rng.integers(0, image.shape[0], 80), strict=True):
        wet[y : y + 10, x] += 60
    return _clip(wet)


def shake(image: Picture, t_s: float, rng: np.random.Generator) -> Picture:
    """The camera trembles by up to 4 px from 3 s to 5 s."""
    if not 3.0 <= t_s < 5.0:
        return sensor_noise(1.5)(image, t_s, rng)
    x, y = (float(v) for v in rng.integers(-4, 5, 2))
    return cv2.warpAffine(
        image, np.array([[1, 0, x], [0, 1, y]], np.float32), image.shape[1::-1], borderMode=cv2.BORDER_REFLECT
    )


#: px a second, less than a block of 16
SLOW_PX_S = 9.0


def slow_walker(image: Picture, t_s: float, rng: np.random.Generator) -> Picture:
    """Somebody creeps to the right at the picture's edge."""
    x = int(10 + SLOW_PX_S * t_s)
    walked = image.copy()
    walked[120:200, x : x + 26] = (35, 45, 60)
    return sensor_noise(1.5)(walked, t_s, rng)


def border_object(image: Picture, t_s: float, rng: np.random.Generator) -> Picture:
    """From 4 s to 5 s something of 14 × 20 px runs up the left border."""
    seen = image.copy()
    if 4.0 <= t_s < 5.0:
        y = int(200 - 120 * (t_s - 4.0))
        seen[y : y + 20, 0:14] = (230, 230, 240)
    return sensor_noise(1.5)(seen, t_s, rng)


@dataclass(slots=True)
class Log:
    """What a stream's gates did: times (ns) at which each expert ran, and what opened its gate, frame by frame."""

    ran: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in STREAMS})
    causes: list[dict[str, str]] = field(default_factory=list)
    t_ns: list[int] = field(default_factory=list)

    def share_fired(self, stream: str, from_s: float, to_s: float) -> float:
        """Share of the frames between two times at which the expert's gate was open."""
        inside = [
            stream in c for c, t in zip(self.causes, self.t_ns, strict=True) if from_s <= t / SECOND < to_s
        ]
        return float(np.mean(inside))

    def seen_causes(self, from_s: float, to_s: float) -> set[str]:
        return {
            cause
            for causes, t in zip(self.causes, self.t_ns, strict=True)
            if from_s <= t / SECOND < to_s
            for cause in causes.values()
        }

    def longest_rest_s(self, stream: str) -> float:
        return float(np.diff([*self.ran[stream], self.t_ns[-1]]).max()) / SECOND


def look_at(frame: np.ndarray, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plain maps in place of a network's: contrast, and the change from the frame before; float32 [14, 14]."""
    side = frame.shape[-1] // 14

    def cells(image: np.ndarray) -> np.ndarray:
        return image.reshape(14, side, 14, side).mean(axis=(1, 3)).astype(np.float32)

    motion = cells(np.abs(frame - previous)[0].max(axis=0))
    return np.clip(3.0 * cells(frame[0].std(axis=0)), 0, 1), np.clip(8.0 * motion, 0, 1)


def play(
    spec: ModelSpec,
    pictures: Iterable[Picture],
    period_ns: int,
    *,
    always_open: bool = False,
    max_skip_s: float = 8.0,
    settings: GateSettings | None = None,
) -> Log:
    """Sampler and policy as on a device; every expert that is due runs."""
    policy = ContentPolicy(spec, always_open=always_open, max_skip_s=max_skip_s, settings=settings)
    sampler, log = StreamSampler(spec, policy, period_ns=period_ns), Log()
    for k, picture in enumerate(pictures):
        for point in sampler.push(picture, k * period_ns).points:
            if not point.fresh:
                continue
            log.ran[point.stream].append(point.t_ns)
            if point.stream == "analyzer":
                assert point.pixels is not None
                policy.read_maps(*look_at(point.pixels[1], point.pixels[0]), point.t_ns)
            policy.ran(point.stream, point.t_ns)
        log.causes.append(dict(sampler.plan.causes))
        log.t_ns.append(k * period_ns)
    return log


def write_table(spec: ModelSpec, picture: Picture, period_ns: int, named: dict[str, Attack]) -> str:
    """Markdown: how often each attack on a still scene opens the temporal gate, and what it is called."""
    lines = ["| attack on a still scene | temporal gate open | called |", "|---|---|---|"]
    for name, attack in named.items():
        rng = np.random.default_rng(0)
        log = play(spec, (attack(picture, k * period_ns / SECOND, rng) for k in range(300)), period_ns)
        later = [c for c, t in zip(log.causes, log.t_ns, strict=True) if t > 2.2 * SECOND]
        fired = np.mean([c.get("temporal", "max skip") != "max skip" for c in later])
        called = sorted({cause for c in later for cause in c.values()} - {"max skip", "warm-up"})
        lines.append(f"| {name} | {fired:.0%} | {', '.join(called) or '–'} |")
    return "\n".join(lines) + "\n"
