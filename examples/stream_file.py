"""Stream a video file (or "0" for a webcam) through a bundle and print what it sees.

vidprism-edge export --target onnx --preset nano --output nano.vpbundle
python examples/stream_file.py nano.vpbundle video.mp4
"""

from __future__ import annotations

import sys

from vidprism_edge import Bundle, Feed, Session, open_source, stream


def main(bundle: str, video: str) -> None:
    source = open_source(video)
    session = Session(Bundle.open(bundle), period_ns=None if source.live else source.period_ns)
    with Feed(source) as feed:
        for _frame, predictions in stream(session, feed):
            for p in predictions:
                fired = ", ".join(f"{name} {runs}" for name, runs in p.experts_fired.items() if runs)
                print(f"{p.t_ns / 1e9:7.2f} s  {p.shown_label:28s} {fired or 'nothing had to run'}")
    summary = session.summarise(feed)
    print(
        f"{summary.macs / summary.macs_always_on:.0%} of the multiply-accumulates of running everything always"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
