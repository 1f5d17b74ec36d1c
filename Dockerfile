# The image that the chart in helm/cagdask runs: scheduler, workers, driver and hooks are all of it.
#
#     docker build --tag cagdask:0.1.0 .
#
# Every package is that of requirements/image.txt, with its hash; a test runs the RUN steps in a clean folder.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv /opt/cagdask/venv
COPY requirements/build.txt requirements/image.txt requirements/
RUN pip install --quiet --require-hashes -r requirements/build.txt \
    && /opt/cagdask/venv/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY cagdask cagdask
RUN pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheel . \
    && /opt/cagdask/venv/bin/pip install --quiet --no-deps wheel/*.whl
COPY scripts/make_certificates.py scripts/wait_for_workers.py scripts/dashboard_password.py /opt/cagdask/
# tests of the packages, and pip itself: nothing of a run
RUN find /opt/cagdask/venv/lib -type d -name tests -prune -exec rm -rf {} + \
    && /opt/cagdask/venv/bin/pip uninstall --quiet --yes pip \
    && /opt/cagdask/venv/bin/cagdask --version

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="cagdask" \
    org.opencontainers.image.description="Co-abundant gene groups: exact average linkage, out of core, on Dask" \
    org.opencontainers.image.licenses="BSD-3-Clause"
COPY --from=build /opt/cagdask /opt/cagdask
# The root may be mounted read-only: what is written goes to /tmp.
ENV PATH=/opt/cagdask/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["cagdask"]
CMD ["--help"]
