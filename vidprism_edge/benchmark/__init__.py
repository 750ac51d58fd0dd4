"""Measuring a bundle on the machine that runs it: scenarios, what is measured, the device, the report.

A device runs this: neither torch nor onnx is imported here, and matplotlib only where a picture is drawn.
"""
