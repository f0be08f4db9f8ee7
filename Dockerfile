# One machine in one container: server, UI, schedule and worker of the project that is mounted at /project.
#
#   docker build -t darkroom .
#   docker run -e PREFECT_SERVER_API_AUTH_STRING=ada:secret -p 127.0.0.1:4200:4200 -p 127.0.0.1:4201:4201 \
#     -v "$PWD":/project -v prefect:/home/darkroom/.prefect darkroom
#
# Whatever comes from elsewhere has the digest that a lock states.
FROM python:3.12-slim AS wheel
WORKDIR /src
COPY requirements-build.lock ./
RUN pip install --no-cache-dir --require-hashes --no-deps -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY darkroom darkroom
COPY flows flows
COPY tasks tasks
COPY expectations expectations
RUN python -m hatchling build --target wheel --directory /dist

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 darkroom
COPY requirements.lock /
RUN pip install --no-cache-dir --require-hashes --no-deps -r /requirements.lock
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir --no-deps --no-index /dist/*.whl
# A named volume takes its owner from here.
RUN install -d -o darkroom -g darkroom /home/darkroom/.prefect
USER darkroom
WORKDIR /project
EXPOSE 4200 4201
STOPSIGNAL SIGINT
# Inside the container the server listens everywhere, so that it wants a password; the port is published to the loopback
# address only (above).
ENTRYPOINT ["darkroom"]
CMD ["serve", "--host", "0.0.0.0"]
