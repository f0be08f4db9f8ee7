# One machine in one container: server, UI, schedule and worker of the project that is mounted at /project.
#
#   docker build -t darkroom .
#   docker run -p 127.0.0.1:4200:4200 -p 127.0.0.1:4201:4201 -v "$PWD":/project -v prefect:/home/darkroom/.prefect darkroom
FROM python:3.12-slim
RUN useradd --create-home --uid 1000 darkroom
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY darkroom darkroom
COPY flows flows
COPY tasks tasks
COPY expectations expectations
# Not from /src: what runs is the installed package.
RUN pip install --no-cache-dir -c constraints.txt . && rm -rf /src
# A named volume takes its owner from here.
RUN install -d -o darkroom -g darkroom /home/darkroom/.prefect
USER darkroom
WORKDIR /project
EXPOSE 4200 4201
STOPSIGNAL SIGINT
# Inside the container the server listens everywhere; the port is published to the loopback address only (above).
ENTRYPOINT ["darkroom"]
CMD ["serve", "--host", "0.0.0.0"]
