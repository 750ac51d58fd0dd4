# An x86-64 machine with OpenVINO: processor, Intel GPU (pass /dev/dri on; the image's driver packages go with its OS).
# BASE: a Debian or Ubuntu image with Python 3.10 or later, for example the slim image of Python 3.11.
#   docker build -f docker/openvino.Dockerfile --build-arg BASE=… -t vidprism-edge-openvino .
#   docker run -v $PWD:/data vidprism-edge-openvino verify /data/x.vpbundle --engine openvino
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev python3-venv libgl1 \
    libglib2.0-0 && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m venv /opt/vpe && /opt/vpe/bin/pip install --no-cache-dir '/src[openvino]'
ENTRYPOINT ["/opt/vpe/bin/vidprism-edge"]
