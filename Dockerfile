# In the folder of your my.py:  docker run --rm --volume "$PWD:/work" thalweg compare my.py:task
FROM python:3.12-slim

# Lanes are compiled, which needs a C++ compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/thalweg
COPY constraints.txt ./
# PyTorch without CUDA, from its own index: a tenth of the size.
RUN pip install --no-cache-dir --constraint constraints.txt torch \
    --index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt '.[compare]'

# Whoever runs it, also with --user, can write what is compiled.
ENV HOME=/tmp
WORKDIR /work
ENTRYPOINT ["thalweg"]
