#!/usr/bin/python3
"""The image: built by its Dockerfile, healthy, without rights, used from another container, drained by `docker stop`.

Starts a Docker daemon of its own, without networks, and makes the base image with mmdebstrap, since no registry is asked.
"""

import json
import os
import subprocess
import tempfile

from support import DEADLINE, REPOSITORY, eventually, require, run, skip, skip_unless_namespaces_work

BUILD_TIMEOUT = 1500.0  # seconds; it compiles everything


class Engine:
    def __init__(self, directory):
        self.host = f"unix://{directory}/docker.sock"
        self.log = open(os.path.join(directory, "dockerd.log"), "w+")
        self.dockerd = subprocess.Popen(
            ["/usr/sbin/dockerd", "--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", "--pidfile", f"{directory}/pid",
             "-H", self.host, "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        eventually(lambda: self.dockerd.poll() is not None or self.run("version", check=False).returncode == 0, "dockerd answers")
        if self.dockerd.poll() is not None:
            skip_unless_namespaces_work("dockerd: " + open(self.log.name).read()[-300:])

    def run(self, *arguments, check=True, timeout=DEADLINE):
        return run("/usr/bin/docker", *arguments, check=check, timeout=timeout, env=self.environment())

    def compose(self, *arguments):
        return run("docker-compose", "-p", "taskpooltest", "-f", os.path.join(REPOSITORY, "docker/compose.yaml"), *arguments,
                   env=self.environment())

    def environment(self):
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1"}

    def stop(self):
        self.dockerd.terminate()
        self.dockerd.wait(DEADLINE)
        self.log.close()


def made(engine, directory):
    base = os.path.join(directory, "base.tar")
    bootstrap = run("mmdebstrap", "--variant=minbase", "bookworm", base, check=False, timeout=600)
    if bootstrap.returncode != 0:
        skip("mmdebstrap: " + bootstrap.stderr[-300:])
    engine.run("import", "-c", 'CMD ["bash"]', base, "debian:bookworm-slim", timeout=300)
    engine.run("build", "--network", "host", "-t", "taskpool", "-f", os.path.join(REPOSITORY, "docker/Dockerfile"), REPOSITORY,
               timeout=BUILD_TIMEOUT)


def used_from_two_containers(engine):
    engine.run("run", "-d", "--network", "none", "--name", "daemon", "-v", "socket:/run/taskpool", "taskpool")
    state = ["inspect", "-f", "{{.State.Health.Status}}", "daemon"]
    eventually(lambda: engine.run(*state).stdout.strip() == "healthy", "the health check passes")
    inside = engine.run("exec", "daemon", "taskpool", "map", "square", "1", "2", "3").stdout
    assert json.loads(inside) == [1, 4, 9], inside
    elsewhere = engine.run("run", "--rm", "--network", "none", "-v", "socket:/run/taskpool", "--entrypoint", "taskpool", "taskpool",
                           "map", "square", "4", "5").stdout
    assert json.loads(elsewhere) == [16, 25], elsewhere
    task = engine.run("exec", "daemon", "taskpool", "apply", "--", "id", "-u").stdout.strip()
    assert task != "0", "tasks run as root"


def drained(engine):
    running = subprocess.Popen(["/usr/bin/docker", "exec", "daemon", "taskpool", "apply", "sleep", "2"], env=engine.environment(),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    eventually(lambda: '"sleep"' in engine.run("exec", "daemon", "taskpool", "--json", "ps").stdout, "the task runs")
    engine.run("stop", "-t", "20", "daemon")
    assert engine.run("inspect", "-f", "{{.State.ExitCode}}", "daemon").stdout.strip() == "0"
    # That process is in the container, too, and may end with it; the daemon said how the task ended.
    running.communicate(timeout=DEADLINE)
    log = engine.run("logs", "daemon").stderr
    assert "event=stopped" in log and "event=stop_timeout" not in log, log
    engine.run("rm", "daemon")


def composed(engine):
    try:
        engine.compose("up", "-d", "daemon")
        done = eventually(lambda: (ran := engine_map(engine)) and ran, "the client of compose is served")
        assert json.loads(done) == [36, 49], done
    finally:
        engine.compose("down", "-v", "-t", "20")


def engine_map(engine):
    return engine.compose("run", "--rm", "-T", "client", "map", "square", "6", "7").stdout


def main():
    require("mmdebstrap", "/usr/sbin/dockerd", "/usr/bin/docker", "docker-compose")
    with tempfile.TemporaryDirectory(prefix="taskpool-docker-") as directory:
        engine = Engine(directory)
        try:
            made(engine, directory)
            for step in (used_from_two_containers, drained, composed):
                step(engine)
                print("ok:", step.__name__.replace("_", " "), flush=True)
        finally:
            engine.stop()


if __name__ == "__main__":
    main()
