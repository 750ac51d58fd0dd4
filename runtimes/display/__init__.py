"""What people see of a run: pictures, video, window, table and timeline.

Nothing here is imported by the streaming runtime. OpenCV and PyAV are imported when something is drawn,
rich by :mod:`table <vidprism_edge.runtimes.display.table>` alone and matplotlib inside the functions of
:mod:`timeline <vidprism_edge.runtimes.display.timeline>`.
"""
