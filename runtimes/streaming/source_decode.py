"""Pictures of an open PyAV container, in order, the damaged ones marked: shared by files and networks."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.picture import Pixels, take_pixels

if TYPE_CHECKING:
    from av.container import InputContainer

# Pictures dropped at most while waiting for a key frame after damage. Streams that refresh block by block
# never send one, and their picture is whole again long before.
MAX_WAIT_FRAMES = 150
# Read errors in a row after which a container is taken to have ended.
MAX_READ_ERRORS = 16
# A period is believed between these rates; containers also say 1000 or 90000 for "unknown".
SANE_RATE_HZ = (1, 240)


class Picture(NamedTuple):
    """A good picture, and its time in nanoseconds, None where the stream has none."""

    pixels: Pixels
    t_ns: int | None


class Bad(NamedTuple):
    """A picture that was there and cannot be used, and why."""

    reason: str


class Decoder:
    """Decodes the first video stream of ``container``; :meth:`read` gives its pictures one by one.

    After an error (undecodable packet, picture flagged corrupt by the decoder, packet flagged by the
    demuxer) everything up to the next key frame is predicted from the damaged picture, so all of it is
    ``Bad("corrupt")``; so are the pictures before the first key frame of a stream that was joined late.
    """

    def __init__(self, container: InputContainer, name: str) -> None:
        from av.codec.context import Flags

        streams = [s for s in container.streams.video if not _is_cover_art(s)]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "no stream at all"
            raise SourceError(f"{name} has no video stream (it has: {kinds}); give a video file or stream")
        self._container = container
        self._stream: Any = streams[0]
        context = self._stream.codec_context
        if context is None:
            raise SourceError(f"{name}: FFmpeg has no decoder here for this video; convert it to H.264")
        # let damaged pictures out, flagged: they are counted here instead of vanishing in the decoder
        context.flags |= Flags.output_corrupt
        self._waiting = MAX_WAIT_FRAMES
        self._pictures = self._decode()

    @property
    def period_ns(self) -> int | None:
        """Nanoseconds between frames as the container tells, or None when it makes no sense."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        if not rate or not SANE_RATE_HZ[0] <= rate <= SANE_RATE_HZ[1]:
            return None
        return round(10**9 / Fraction(rate))

    def read(self) -> Picture | Bad | None:
        """Return the next picture; None at the end of the stream. Raises what FFmpeg's reading raises."""
        return next(self._pictures, None)

    def _decode(self) -> Iterator[Picture | Bad]:
        import av

        for packet in self._packets():
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, MemoryError) as error:
                if isinstance(error, av.error.EOFError):
                    return
                self._waiting = MAX_WAIT_FRAMES
                yield Bad("corrupt")
                continue
            for frame in frames:
                yield self._judge(frame, packet.is_corrupt)

    def _packets(self) -> Iterator[Any]:
        """Packets, over damaged places of the container too; ends with the empty one that flushes."""
        import av

        errors = 0
        while errors < MAX_READ_ERRORS:
            try:
                for packet in self._container.demux(self._stream):
                    errors = 0
                    yield packet
                return
            except av.error.EOFError:
                return
            except av.error.InvalidDataError:
                errors += 1
                self._waiting = MAX_WAIT_FRAMES

    def _judge(self, frame: Any, packet_corrupt: bool) -> Picture | Bad:
        if frame.is_corrupt or packet_corrupt:
            self._waiting = MAX_WAIT_FRAMES
            return Bad("corrupt")
        if self._waiting and not frame.key_frame:
            self._waiting -= 1
            return Bad("corrupt")
        self._waiting = 0
        return Picture(take_pixels(frame), _time_ns(frame))


def _is_cover_art(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _time_ns(frame: Any) -> int | None:
    if frame.pts is None or frame.time_base is None:
        return None
    base = frame.time_base
    return int((2 * frame.pts * base.numerator * 10**9 + base.denominator) // (2 * base.denominator))
