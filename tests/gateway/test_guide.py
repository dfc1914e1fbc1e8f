"""docs/gateway.md: what it prints works as printed."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import KEYS
from tests.gateway.probe import ROOT
from tests.support.servers import free_port

GUIDE = (ROOT / "docs" / "gateway.md").read_text()
# A file's name stands before its text.
FILES = dict(re.findall(r"^`([a-z.]+)`:\n\n```[a-z]+\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))
SHELL = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
PRINTED = re.findall(r"^```json\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The guide's files, compiled and served by its own commands, on ports of our own: its port -> ours."""
    ports = {"50061": str(free_port()), "8081": str(free_port())}
    for name, text in FILES.items():
        (tmp_path / name).write_text(with_ports(text, ports))
    compiling, *serving = re.split(r"\n(?=python (?:server|-m gateway))", with_ports(SHELL[0], ports).strip())
    python = f'python() {{ PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} "$@"; }}; '
    subprocess.run(["bash", "-ec", python + compiling], cwd=tmp_path, check=True)
    commands = [shlex.split(command.removesuffix("&"))[1:] for command in serving]
    environment = {"PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen([sys.executable, *command], cwd=tmp_path, env=environment) for command in commands]
    yield ports
    for process in started:
        process.terminate()
        process.wait(10)


def with_ports(text: str, ports: dict[str, str]) -> str:
    for theirs, ours in ports.items():
        text = text.replace(f":{theirs}", f":{ours}")
    return text


def test_the_example_answers_as_printed(served: dict[str, str]) -> None:
    answers = [asked(with_ports(line, served)) for line in SHELL[1].strip().splitlines()]

    assert "".join(f"{answer.rstrip()}\n" for answer in answers) == PRINTED[0]


def test_the_app_of_ones_own_answers_as_well(served: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "app.py").write_text(with_ports(FILES["app.py"], served).replace("8082", f"{port}"))
    process = subprocess.Popen([sys.executable, "app.py"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    try:
        answer = asked(f"curl 127.0.0.1:{port}/v1/shelves/1/books/2")
    finally:
        process.terminate()
        process.wait(10)

    assert answer == PRINTED[0].splitlines()[0]


def asked(line: str) -> str:
    # The two processes have just been started: nobody may listen yet, or the one find the other away.
    patient = ["--silent", "--show-error", "--fail", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]
    command = ["curl", *patient, *shlex.split(line)[1:]]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_every_key_of_the_config_is_told() -> None:
    assert set(re.findall(r"^\| `([a-z_]+)` \|", GUIDE, re.MULTILINE)) == set(KEYS)
