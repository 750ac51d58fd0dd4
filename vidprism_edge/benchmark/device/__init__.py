"""The machine that is measured: what it is, how hot and fast it runs, what else it does, what it draws.

Everything is read from files of the kernel's below a root that tests replace, from NVIDIA's libraries where they are,
and from ``tegrastats`` on a Jetson. What cannot be read is None or absent, never 0.
"""
