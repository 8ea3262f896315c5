# One image for the web server, the workers, the clock (beat) and the job that migrates.
# docker-compose.yml says which command each of them runs.

FROM python:3.11-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
COPY requirements.txt .
# The lock file is complete and by hash; the embedded servers and the tests' packages stay out.
RUN /venv/bin/pip install --require-hashes --no-deps -r requirements.txt

FROM node:22-bookworm-slim AS page
WORKDIR /page
COPY package.json package-lock.json ./
# noVNC, by hash; it has no scripts to run and needs no others.
RUN npm ci --ignore-scripts --omit=dev --no-audit --no-fund

FROM python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    IZVOR_BIND=0.0.0.0 IZVOR_PORT=8082 IZVOR_LOG_FORMAT=json \
    IZVOR_STATIC_ROOT=/izvor/staticfiles
RUN useradd --system --uid 10001 --home-dir /izvor --no-create-home izvor
WORKDIR /izvor
COPY --from=packages /venv /venv
COPY . .
COPY --from=page /page/node_modules ./node_modules
# Nothing is connected to here; the settings only insist on being told.
RUN IZVOR_SECRET_KEY=unused DATABASE_URL=postgres://unused/unused REDIS_URL=redis://unused \
    python manage.py collectstatic --noinput
USER izvor
EXPOSE 8082
CMD ["python", "manage.py", "serve"]
