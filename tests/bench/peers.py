"""What the peers need to be run, under build/bench-peers: an environment of their own for those in Python, and the compiled Java program.

``make bench-peers`` makes both; what cannot be made here is said, and its systems are left out of a run with that reason. This file is
imported by the peers too, so it needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "build" / "bench-peers"
PYTHON = DIRECTORY / "venv" / "bin" / "python"
JAVA = DIRECTORY / "kafka_streams"

_SYSTEMS = Path(__file__).with_name("systems")
_PROTO = Path(__file__).with_name("proto") / "bench.proto"
_REQUIREMENTS = _SYSTEMS / "requirements.txt"
_JAVA_SOURCES = (_SYSTEMS / "kafka_streams" / "pom.xml", _SYSTEMS / "kafka_streams" / "StatePerUser.java", _PROTO)
#: Beside what was made: the digest of what it was made from.
_MADE = ".made-from"


def why_not_python() -> str:
    return _why_not(PYTHON.parents[1], [_REQUIREMENTS])


def why_not_java() -> str:
    if shutil.which("java") is None:
        return "there is no java"
    return _why_not(JAVA, _JAVA_SOURCES)


def versions() -> dict[str, str]:
    """Of the peers, as they are pinned."""
    pinned = dict(line.split("==") for line in _REQUIREMENTS.read_text().splitlines() if "==" in line)
    (kafka_streams,) = re.findall(r"<artifactId>kafka-streams</artifactId>\s*<version>([\d.]+)<", _JAVA_SOURCES[0].read_text())
    return {name: pinned[name] for name in ("quixstreams", "bytewax", "pathway", "confluent-kafka")} | {"kafka-streams": kafka_streams}


def python_command(module: str) -> tuple[str, ...]:
    return str(PYTHON), "-m", f"tests.bench.systems.{module}"


def java_command(main_class: str) -> tuple[str, ...]:
    return "java", "-Xmx1g", "-cp", f"{JAVA / 'classes'}:{JAVA / 'libs'}/*", main_class


def make_python() -> None:
    venv = PYTHON.parents[1]
    shutil.rmtree(venv, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(venv))
    _run(str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--progress-bar", "off", "-r", str(_REQUIREMENTS))
    _done(venv, [_REQUIREMENTS])


def make_java() -> None:
    """Kafka Streams from Maven Central, the messages' Java code from the same .proto, compiled with the JDK's own compiler."""
    for program, package in (("javac", "openjdk-17-jdk-headless"), ("mvn", "maven")):
        if shutil.which(program) is None:
            raise OSError(f"there is no {program}: on Debian, apt-get install {package}")
    pom, source, proto = _JAVA_SOURCES
    shutil.rmtree(JAVA, ignore_errors=True)
    libs, generated, classes = (JAVA / name for name in ("libs", "generated", "classes"))
    generated.mkdir(parents=True)
    fetch = ("dependency:copy-dependencies", f"-DoutputDirectory={libs}", f"-Dprotoc.platform={_protoc_platform()}")
    _run("mvn", "-q", "-B", "-f", str(pom), *fetch)
    (protoc,) = libs.glob("protoc-*.exe")
    protoc.chmod(0o755)
    _run(str(protoc), f"-I{proto.parent}", f"--java_out={generated}", proto.name)
    _run("javac", "-nowarn", "-d", str(classes), "-cp", f"{libs}/*", str(source), *map(str, generated.rglob("*.java")))
    _done(JAVA, _JAVA_SOURCES)


def main() -> None:
    wanted: Sequence[tuple[str, Callable[[], str], Callable[[], None]]] = (
        ("Quix Streams, Bytewax, Pathway and confluent-kafka", why_not_python, make_python),
        ("Kafka Streams", why_not_java, make_java),
    )
    for what, why_not, make in wanted:
        if not why_not():
            continue
        print(f"==> {what}, into {DIRECTORY.relative_to(ROOT)}", flush=True)
        try:
            make()
        except (OSError, subprocess.CalledProcessError) as exc:
            print(f"left out of the benchmark: {what}: {exc}", file=sys.stderr)


def _protoc_platform() -> str:
    """As Maven Central names it: linux-x86_64, linux-aarch_64, osx-aarch_64."""
    system = {"Darwin": "osx"}.get(platform.system(), platform.system().lower())
    machine = {"AMD64": "x86_64", "arm64": "aarch_64", "aarch64": "aarch_64"}.get(platform.machine(), platform.machine())
    return f"{system}-{machine}"


def _why_not(place: Path, made_from: Sequence[Path]) -> str:
    made = place / _MADE
    if not made.exists():
        return f"{place.relative_to(ROOT)} is not there: make bench-peers"
    return "" if made.read_text() == _digest(made_from) else f"{place.relative_to(ROOT)} is of an earlier version: make bench-peers"


def _done(place: Path, made_from: Sequence[Path]) -> None:
    (place / _MADE).write_text(_digest(made_from))


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _run(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
