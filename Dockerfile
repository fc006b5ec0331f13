# cmaml_pl with the exact versions of requirements.lock. docs/operations.md says how to build and run it.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*

# PyTorch's default build for Linux includes CUDA; without a GPU the CPU build is enough, and smaller.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1

# WORKDIR alone would make a folder of root's.
RUN useradd --create-home --uid 1000 cmaml \
    && install --directory --owner cmaml --group cmaml /home/cmaml/cmaml_pl
USER cmaml
WORKDIR /home/cmaml/cmaml_pl

COPY --chown=cmaml:cmaml . .
RUN make setup && mkdir -p runs

CMD ["make"]
