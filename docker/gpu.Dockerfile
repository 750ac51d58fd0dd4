# A machine with a discrete NVIDIA GPU. BASE: NVIDIA's tensorrt image with TensorRT 10.3 or later.
#   docker build -f docker/gpu.Dockerfile --build-arg BASE=… -t vidprism-edge-gpu .
#   docker run --gpus all -v $PWD:/data vidprism-edge-gpu build /data/x.vpbundle
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends gcc python3-dev python3-venv libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m venv --system-site-packages /opt/vpe && /opt/vpe/bin/pip install --no-cache-dir '/src[tensorrt]'
ENTRYPOINT ["/opt/vpe/bin/vidprism-edge"]
