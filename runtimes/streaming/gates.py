"""Gates: whether an expert is worth running, judged from the native core's block statistics alone.

A gate is never closed for longer than its ``max_skip``, and motion reopens it at the next frame. Whatever opens a
gate has a name: ``motion``, ``scene change``, ``camera shake``, ``change`` (too slow to show between two frames),
``light`` and ``max skip``. A learned router, where the settings have one, may close what ``motion`` opened.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import BundleError, UsageError
from vidprism_edge.runtimes.streaming.router import RouterWeights
from vidprism_edge.spec import NONE, STREAMS, ModelSpec

Luma = npt.NDArray[np.float32]

#: A block has changed when its luma moved by more than this many grey levels …
LEAST_CHANGE = 4.0
#: … and, where the camera is noisy, by more than this many times its noise or this much above it, whichever is less.
NOISE_FACTOR, NOISE_MARGIN = 4.0, 4.0
#: A block's mean luma has this share of the noise that its pixels have, with room.
MEAN_NOISE = 0.5
#: Share of blocks that must have changed; never fewer than two.
LEAST_SHARE = 0.002
#: How fast the noise floor follows, per frame; in a stream's first frames it is their mean.
NOISE_RATE = 0.02
#: A change of this share of all blocks is the light's or the camera's, not an object's.
GLOBAL_SHARE = 0.6
#: Light is told by a tone curve through so many medians; colours that saturate may leave this share of the change.
TONE_KNOTS, LIGHT_SLACK = 12, 0.35
#: A second global change within so many frames is a shake.
SHAKE_FRAMES = 15
#: What opens a gate although nothing was seen to move.
LOOKS = ("max skip", "light")
#: Light alone lets an expert look once in so many seconds.
LIGHT_EVERY_S = 5.0


class GateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How sparing gates are; :func:`default_settings` fits them to a network, and calibration finds cheaper ones.

    By stream: ``hold_s``, how long an expert goes on after the picture has come to rest, and ``busy_interval``: while
    something happens, every n-th grid point is sampled; beyond the stream's floor, one point is sampled when n have
    passed since the last.
    """

    hold_s: dict[str, float] = msgspec.field(default_factory=lambda: dict.fromkeys(STREAMS, 1.0))
    busy_interval: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(STREAMS, 1))
    #: A block has changed when its luma moved by this many grey levels (more where the camera is noisy) …
    least_change: float = LEAST_CHANGE
    #: … and a picture, for an expert, when this share of its blocks has; never fewer than two.
    least_share: dict[str, float] = msgspec.field(default_factory=lambda: dict.fromkeys(STREAMS, LEAST_SHARE))
    #: How long the temporal expert looks when light asks for it, so that the change is in its past when it stops. Any
    #: other look ends when the expert has run.
    look_s: float = 0.0
    #: While the temporal gate is closed over a still picture, its last token stands for the missing ones, and decisions
    #: repeat the one before. ``hold_s`` of temporal should then be no less than its receptive field.
    hold_decisions: bool = False
    #: What a learned router knows; None: there is none.
    router: RouterWeights | None = None
    #: Which expert a latency budget sheds first.
    shed_order: tuple[str, ...] = ("spatial", "hybrid", "temporal")

    def __post_init__(self) -> None:
        for name in ("hold_s", "busy_interval", "least_share"):
            if set(getattr(self, name)) != set(STREAMS):
                raise UsageError(f"{name} names {sorted(getattr(self, name))}, expected {sorted(STREAMS)}")
        if min(*self.hold_s.values(), self.look_s) < 0 or min(self.busy_interval.values()) < 1:
            raise UsageError(
                f"hold_s {self.hold_s}, look_s {self.look_s}, busy_interval {self.busy_interval}: expected 0 or more "
                "seconds, and intervals of 1 or more"
            )
        shares = self.least_share.values()
        if not 0 < self.least_change < 255 or not 0 <= min(shares) <= max(shares) < 1:
            raise UsageError(
                f"least_change is {self.least_change}, least_share {self.least_share}; expected grey levels and shares"
            )
        if self.busy_interval["temporal"] != 1:
            raise UsageError("busy_interval of temporal must be 1: a convolution's past has one rate")
        if set(self.shed_order) != set(STREAMS) - {"analyzer"} or len(self.shed_order) != 3:
            raise UsageError(f"shed_order is {self.shed_order}, expected the three experts in some order")


#: In a bundle, the settings that calibration chose.
SETTINGS_FILE = "calibration/gates.json"


class CalibratedGates(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime reads of :data:`SETTINGS_FILE`; the file also says how they were chosen."""

    settings: GateSettings


def default_settings(spec: ModelSpec) -> GateSettings:
    """The settings where nothing was calibrated.

    A network that knows ``none`` says so of a window that it has seen come to rest, and something else where motion
    tokens are merely missing: the temporal expert goes on for a window and a decision after the last motion, and its
    last token and what is decided then are kept while nothing changes.
    """
    if NONE not in spec.labels:
        return GateSettings()
    rest_s = spec.window_s + spec.hop_s
    return GateSettings(
        hold_s={**GateSettings().hold_s, "temporal": rest_s}, look_s=rest_s, hold_decisions=True
    )


def load_settings(bundle: Bundle) -> GateSettings:
    """The bundle's calibrated settings, or the defaults where it has none. Errors: :class:`BundleError`."""
    if SETTINGS_FILE not in bundle.manifest.files:
        return default_settings(bundle.spec)
    path = bundle.file(SETTINGS_FILE)
    try:
        return msgspec.json.decode(path.read_bytes(), type=CalibratedGates).settings
    except (msgspec.MsgspecError, UsageError) as error:
        raise BundleError(f"{path} does not hold gate settings: {error}; calibrate again") from None


class Activity:
    """Tells motion and slow change from the camera's noise, light and shake. The noise floor is learned per camera."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        settings = settings or GateSettings()
        self._least_change, self._least_share = settings.least_change, min(settings.least_share.values())
        #: Share of the blocks that changed with the last frame.
        self.share = 0.0
        self.noise = 1.0
        self.moving = False
        #: What moves: ``motion``, ``scene change`` or ``camera shake``; ``light`` where nothing does; else empty.
        self.cause = ""
        #: By how much each block [bh, bw] moved more than still ones may, grey levels; None where nothing moved, or
        #: all of the picture.
        self.excess: Luma | None = None
        self._luma: Luma | None = None
        self._learned = 0
        self._since_global = SHAKE_FRAMES + 1

    def observe(self, stats: npt.NDArray[np.float32]) -> None:
        """Take a frame's block statistics, float32 [3, bh, bw]: motion, energy, mean luma."""
        motion, luma = stats[0], stats[2].copy()
        if self._luma is not None and self._luma.shape == luma.shape:
            self._learn(motion)
        threshold = self._threshold()
        changed = motion > threshold
        count = int(np.count_nonzero(changed))
        self.cause, self.share = "", count / motion.size
        self._since_global += 1
        if count >= self._least(motion.size):
            self.cause = "motion" if count < GLOBAL_SHARE * motion.size else self._name_global(motion, luma)
        self.moving = self.cause not in ("", "light")
        self.excess = np.maximum(motion - threshold, 0.0) if self.cause == "motion" else None
        self._luma = luma

    def _learn(self, motion: Luma) -> None:
        """Follow the median block, which is still unless more than half of the picture moves."""
        rate = max(NOISE_RATE, 1.0 / (self._learned + 2))
        self._learned += 1
        self.noise += rate * (min(float(np.median(motion)), 2.0 * self.noise + 0.5) - self.noise)

    def _threshold(self) -> float:
        return max(self._least_change, min(NOISE_FACTOR * self.noise, self.noise + NOISE_MARGIN))

    def _least(self, blocks: int, share: float = 0.0) -> int:
        return max(2, round(max(self._least_share, share) * blocks))

    def _name_global(self, motion: Luma, luma: Luma) -> str:
        """What has changed (nearly) every block at once."""
        if self._luma is not None and self._luma.shape == luma.shape:
            # light moves all pixels of a block the same way: the block's mean moves as much as they do
            within = motion - np.abs(luma - self._luma)
            torn = np.count_nonzero(within > self._threshold()) >= self._least(motion.size)
            if not torn and self._is_light(self._luma, luma, self._threshold()):
                return "light"
        shaken, self._since_global = self._since_global <= SHAKE_FRAMES, 0
        if not shaken:
            self._learned = 0  # another scene, or infra-red: its noise is another one
        return "camera shake" if shaken else "scene change"

    def _is_light(self, old: Luma, new: Luma, threshold: float) -> bool:
        """Whether one tone curve turns the old block means into the new ones, as lamps and exposure do."""
        if old.mean() > new.mean():  # from dark to bright, because what saturates has lost its differences
            old, new = new, old
        order = np.argsort(old, axis=None)
        x, y = old.ravel()[order], new.ravel()[order]
        parts = min(TONE_KNOTS, x.size)
        knots_x, knots_y = (
            np.array([np.median(part) for part in np.array_split(v, parts)], np.float64) for v in (x, y)
        )
        curve = np.interp(x, knots_x, knots_y)
        for knot, neighbour, outside in ((0, 1, x < knots_x[0]), (-1, -2, x > knots_x[-1])):
            run = knots_x[knot] - knots_x[neighbour] if parts > 1 else 0.0
            slope = (knots_y[knot] - knots_y[neighbour]) / run if run else 1.0
            curve[outside] = np.clip(knots_y[knot] + slope * (x[outside] - knots_x[knot]), 0.0, 255.0)
        allowed = np.maximum(threshold, LIGHT_SLACK * np.abs(y - x))
        return int(np.count_nonzero(np.abs(y - curve) > allowed)) < self._least(x.size)

    def reference(self) -> Luma | None:
        """The mean luma of each block now, to be compared with later."""
        return self._luma

    def difference(self, reference: Luma | None, share: float = 0.0) -> str:
        """How the picture differs from ``reference``, in at least this share of its blocks.

        ``change``, ``light``, or empty. Sees motion too slow to show between two frames.
        """
        if reference is None or self._luma is None or reference.shape != self._luma.shape:
            return "change"
        threshold = max(self._least_change, MEAN_NOISE * self.noise)
        if np.count_nonzero(np.abs(self._luma - reference) > threshold) < self._least(reference.size, share):
            return ""
        return "light" if self._is_light(reference, self._luma, threshold) else "change"


class Gate:
    """Opens when its expert is wanted, stays open for ``hold``, and never stays closed beyond ``max_skip``."""

    def __init__(
        self,
        *,
        hold_s: float,
        max_skip_s: float,
        always_open: bool,
        look_s: float = 0.0,
        least_share: float = 0.0,
    ) -> None:
        self._least_share = least_share
        self._hold_ns, self._look_ns = round(hold_s * 1e9), round(look_s * 1e9)
        self._max_skip_ns = round(max_skip_s * 1e9)
        self._always_open = always_open
        self.is_open = True
        #: Why the gate is open, or closed.
        self.reason = "warm-up"
        #: When the expert has rested for its max skip.
        self.overdue_ns = self._max_skip_ns
        self._open_until_ns = 0
        self._seen: Luma | None = None

    def reset(self, t_ns: int, warm_up_ns: int) -> None:
        """Start anew at ``t_ns``; the gate stays open while the first window fills."""
        self._open_until_ns = t_ns + warm_up_ns
        self.overdue_ns = t_ns + self._max_skip_ns
        self._seen = None
        self.is_open, self.reason = True, "warm-up"

    def ran(self, t_ns: int, activity: Activity) -> None:
        """The expert ran on the picture as it is now."""
        self.overdue_ns = t_ns + self._max_skip_ns
        self._seen = activity.reference()

    @property
    def has_run(self) -> bool:
        """Whether the expert has run since the stream began."""
        return self._seen is not None

    def rested_ns(self, t_ns: int) -> int:
        """For how long the expert has not run."""
        return t_ns - self.overdue_ns + self._max_skip_ns

    def open_for_good(self) -> None:
        """From now on the gate is always open."""
        self._always_open = True

    def update(self, t_ns: int, activity: Activity, *, join: bool = False) -> None:
        """Decide at a frame's time whether the expert may run.

        ``join``: another expert is overdue; one that has rested for half of its max skip looks with it.
        """
        self.is_open, self.reason = self._judge(t_ns, activity, join)

    def _judge(self, t_ns: int, activity: Activity, join: bool) -> tuple[bool, str]:
        if self._always_open:
            return True, "always open"
        wanted = activity.cause if activity.moving and activity.share >= self._least_share else ""
        if not wanted and self._seen is not None:
            wanted = activity.difference(self._seen, self._least_share)
        if wanted and wanted != "light":
            self._open_until_ns = max(self._open_until_ns, t_ns + self._hold_ns)
            return True, wanted
        if t_ns < self._open_until_ns:
            return True, self.reason
        # one look: what it finds to have changed opens the gate again
        rested_ns = self.rested_ns(t_ns)
        if t_ns >= self.overdue_ns or (join and 2 * rested_ns >= self._max_skip_ns):
            return True, "max skip"
        if wanted == "light" and rested_ns >= LIGHT_EVERY_S * 1e9:
            self._open_until_ns = t_ns + self._look_ns
            return True, "light"
        return False, "still picture"
