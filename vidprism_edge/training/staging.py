"""Clips made of clips: what a camera also sees and no data set has, as frames that go through the runtime's sampler.

Each maker takes a clip and a generator of its own, and gives a clip, or None where it cannot be made of this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vidprism_edge.calibration.data import Clip
from vidprism_edge.calibration.streams import back_and_forth, count_still, idle_around
from vidprism_edge.runtimes.streaming.source import Frame
from vidprism_edge.spec import NONE

Picture = npt.NDArray[np.uint8]
Maker = Callable[[Clip, np.random.Generator], Clip | None]

#: An idle clip needs so many still frames at a clip's start.
LEAST_IDLE = 5
#: Length of what is made without an action.
MADE_S = 3.5
#: Idle before and after the action of a stream.
BEFORE_S, AFTER_S = (2.0, 6.0), (1.5, 4.0)
#: A clip is seen from so many times as far away, and the camera's longer side is so many pixels.
FAR, FAR_PX = (1.3, 4.0), 640
#: Least and largest share of the picture's sides that a thing has which passes.
THING = (0.12, 0.8)
#: Least part of the clip for which it is on its way.
ON_ITS_WAY = 0.25


def _quiet(clip: Clip, pictures: Sequence[npt.NDArray], rng: np.random.Generator) -> Clip:
    """A clip of class ``none`` of these pictures, with a sensor's noise."""
    period = clip.frame_ns
    frames = []
    for i, picture in enumerate(pictures):
        noisy = picture + rng.normal(0.0, rng.uniform(0.5, 2.5), picture.shape)
        frames.append(Frame(np.clip(noisy, 0, 255).astype(np.uint8), i * period, i))
    return Clip(replace(clip.entry, label=NONE), frames, period)


def make_idle(clip: Clip, rng: np.random.Generator) -> Clip | None:
    """The still frames at a clip's start, played forwards and backwards; None if too few."""
    still = count_still([frame.image for frame in clip.frames])
    if still < LEAST_IDLE:
        return None
    order = back_and_forth(0, still - 1, round(MADE_S * 1e9 / clip.frame_ns))
    return _quiet(clip, [clip.frames[i].image for i in order], rng)


def make_stream(clip: Clip, rng: np.random.Generator) -> Clip | None:
    """The clip between its own still frames, played forwards and backwards; None where too few stand still."""
    pictures = [frame.image for frame in clip.frames]
    count, head, tail = len(pictures), count_still(pictures), count_still(pictures[::-1])
    if min(head, tail) < LEAST_IDLE or head + tail >= count:
        return None
    idle = [round(s * 1e9 / clip.frame_ns) for s in (rng.uniform(*BEFORE_S), rng.uniform(*AFTER_S))]
    before, after = idle_around(count, head, tail, idle)
    stream = _quiet(clip, [pictures[i] for i in (*before, *range(count), *after)], rng)
    return replace(stream, entry=clip.entry, span=(idle[0] + head, idle[0] + count - tail))


def make_far(clip: Clip, rng: np.random.Generator) -> Clip:
    """The clip from farther away, somewhere in a wider picture whose rest is its border drawn out."""
    import cv2

    height, width = clip.frames[0].image.shape[:2]
    times = float(np.exp(rng.uniform(*np.log(FAR))))
    wide = [round((times - 1) * side) for side in (height, width)]
    top, left = (round(rng.uniform(0.2, 0.8) * room) for room in wide)
    scale = FAR_PX / max(height, width)
    size = round(width * scale), round(height * scale)
    way = cv2.INTER_AREA if scale < times else cv2.INTER_LINEAR
    frames = []
    for frame in clip.frames:
        scene = cv2.copyMakeBorder(
            frame.image, top, wide[0] - top, left, wide[1] - left, cv2.BORDER_REPLICATE
        )
        frames.append(Frame(cv2.resize(scene, size, interpolation=way), frame.t_ns, frame.index))
    return replace(clip, frames=frames)


def make_passing(clip: Clip, rng: np.random.Generator) -> Clip:
    """A thing comes into the clip's first picture and goes, stays, or turns back; nobody does anything.

    The thing is a part of a picture of the clip, in other colours: an object, a hand that takes something, a car.
    """
    import cv2

    scene = clip.frames[0].image
    height, width = scene.shape[:2]
    w, h = (int(side * np.exp(rng.uniform(*np.log(THING)))) for side in (width, height))
    x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
    part = clip.frames[int(rng.integers(len(clip.frames)))].image[y : y + h, x : x + w, ::-1]
    thing = np.clip(
        part @ rng.dirichlet((1, 1, 1), 3).T * rng.uniform(0.4, 1.6) + rng.uniform(-40, 40), 0, 255
    )
    across = [np.abs(np.linspace(-1, 1, n)) ** rng.choice((2, 4, 12)) for n in (h, w)]
    shape = (across[0][:, None] + across[1][None] < 1).astype(np.float32)
    shape = cv2.GaussianBlur(shape, (0, 0), 1.0)[..., None]
    thing = np.concatenate((thing.astype(np.float32), shape), axis=2)

    def outside() -> npt.NDArray:
        along, side = rng.uniform(0.1, 0.9), rng.integers(2)
        if rng.random() < 0.5:
            return np.array((width * along, -h / 2 if side else height + h / 2))
        return np.array((-w / 2 if side else width + w / 2, height * along))

    def inside() -> npt.NDArray:
        return rng.uniform(0.15, 0.85, 2) * (width, height)

    begins = outside()
    way = [[begins, outside()], [begins, inside()], [begins, inside(), begins + rng.normal(0, 10, 2)]]
    points = np.array(way[int(rng.integers(len(way)))])
    start, end = sorted(rng.uniform(0, 1, 2))
    times = np.linspace(start, max(end, start + ON_ITS_WAY), len(points))
    turns, sizes = rng.normal(0, 25, len(points)), np.exp(rng.normal(0, 0.15, len(points)))
    pictures = []
    count = round(MADE_S * 1e9 / clip.frame_ns)
    for now in np.arange(count) / count:
        at_x, at_y, turn, size = (np.interp(now, times, v) for v in (*points.T, turns, sizes))
        move = cv2.getRotationMatrix2D((w / 2, h / 2), turn, size)
        move[:, 2] += at_x - w / 2, at_y - h / 2
        moved = cv2.warpAffine(thing, move, (width, height))
        pictures.append(scene * (1 - moved[..., 3:]) + moved[..., :3] * moved[..., 3:])
    return _quiet(clip, pictures, rng)


#: Makers by the name under which caches keep what they make.
MAKERS: dict[str, Maker] = {
    "idle": make_idle,
    "stream": make_stream,
    "far": make_far,
    "passing": make_passing,
}
#: Those whose clips show what the clip shows; the others are of class ``none``.
SAME_LABEL = ("", "stream", "far")
