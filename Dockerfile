FROM python:3.13-slim-trixie

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0 PORT=8080
WORKDIR /app

# requirements-tracing.lock: with OpenTelemetry, for OTEL_EXPORTER_OTLP_ENDPOINT.
ARG REQUIREMENTS=requirements.lock
COPY "$REQUIREMENTS" ./
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --require-hashes -r "$REQUIREMENTS"

COPY server.py ./
COPY wallet_api ./wallet_api
COPY db ./db

# Nobody in particular: the service writes nothing to disk.
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s \
    CMD ["python", "-m", "wallet_api.probe", "/livez"]
CMD ["python", "server.py"]
