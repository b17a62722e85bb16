# One image for all processes: `docker run central-coordinator api|dispatcher|worker …`; settings come by COORDINATOR_* variables.
# EXTRAS: what of the distribution it holds; `demo` has the example models as well, and what they need.

FROM python:3.12-slim AS build
ARG EXTRAS=api
RUN python -m venv /opt/coordinator
WORKDIR /source
# The glob makes the file optional: where there is none, pip chooses the versions.
COPY pyproject.toml README.md constraints.tx[t] ./
COPY core core
COPY api api
COPY dispatcher dispatcher
COPY worker worker
COPY client client
COPY cli cli
COPY examples examples
RUN touch constraints.txt \
    && /opt/coordinator/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[$EXTRAS]" \
    && /opt/coordinator/bin/pip uninstall --yes --quiet pip \
    && find /opt/coordinator -type d -name tests -prune -exec rm -rf {} +

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin coordinator
COPY --from=build /opt/coordinator /opt/coordinator
ENV PATH=/opt/coordinator/bin:$PATH PYTHONUNBUFFERED=1 COORDINATOR_API_HOST=0.0.0.0 COORDINATOR_LOG_FORMAT=json
USER 10001
EXPOSE 8000
ENTRYPOINT ["coordinator"]
CMD ["--help"]
