"""Push frames of your own, here from OpenCV: all that is needed is a BGR picture and a timestamp.

python examples/own_frames.py nano.vpbundle
"""

from __future__ import annotations

import sys
import time

import cv2

from vidprism_edge import Bundle, Frame, Session


def main(bundle: str, camera: int = 0) -> None:
    session = Session(Bundle.open(bundle))
    capture = cv2.VideoCapture(camera)
    index = 0
    while True:
        ok, image = capture.read()
        if not ok:
            break
        # None: the timestamp was not later than the one before, and the frame was refused
        for prediction in session.push(Frame(image, time.monotonic_ns(), index)) or []:
            print(prediction.shown_label, prediction.experts_fired, prediction.skipped)
        index += 1


if __name__ == "__main__":
    main(sys.argv[1])
