# A Jetson with JetPack 6.1 or later. BASE: NVIDIA's l4t-jetpack image of the board's L4T, for example its tag r36.4.0.
#   docker build -f docker/jetson.Dockerfile --build-arg BASE=… -t vidprism-edge .
#   docker run --runtime nvidia -v $PWD:/data vidprism-edge build /data/x.vpbundle
# Engines are built when it runs, on the board, never in the image.
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends gcc python3-dev python3-venv \
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
COPY . /src
# the system's Python sees the image's TensorRT
RUN python3 -m venv --system-site-packages /opt/vpe && /opt/vpe/bin/pip install --no-cache-dir '/src[tensorrt]'
ENTRYPOINT ["/opt/vpe/bin/vidprism-edge"]
