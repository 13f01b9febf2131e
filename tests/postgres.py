"""PostgreSQL versions that no Python package carries: ``python -m tests.postgres`` fetches those that are not here."""

from __future__ import annotations

import platform
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

from contexts import maven
from contexts.embedded import available_majors

#: Archives of io.zonky.test.postgres: whole servers with their extensions, without client programs.
VERSIONS = {14: "14.20.0", 17: "17.7.0"}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64v8"}


def fetch(major: int) -> Path:
    """The folder of a server that :func:`available_majors` finds then; 15 MB, once on a machine.

    :raises FetchFailed: there is no archive for this machine, or Maven is not here or failed.
    """
    version = VERSIONS[major]

    def make(folder: Path) -> Path:
        jars = maven.copy_dependencies(folder, [("io.zonky.test.postgres", _artifact(), version)])
        return _unpacked(next(jars.glob("*.jar")), folder / "server")

    return maven.cached(f"postgres-{version}", make)


def _artifact() -> str:
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        raise maven.FetchFailed(f"there is no archive for {sys.platform} on {platform.machine()}")
    if shutil.which("mvn") is None:
        raise maven.FetchFailed("not on the PATH: mvn")
    return f"embedded-postgres-binaries-linux-{machine}"


def _unpacked(jar: Path, folder: Path) -> Path:
    with zipfile.ZipFile(jar) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".txz"))
        with outer.open(name) as inner, tarfile.open(fileobj=inner, mode="r:xz") as archive:
            archive.extractall(folder, filter="data")
    return folder


def main() -> None:
    """Fetch what is not here, as far as that can be done, and say what stays missing."""
    for major in sorted(VERSIONS.keys() - available_majors().keys()):
        try:
            print(f"PostgreSQL {major}, fetched for the tests: {fetch(major)}")
        except maven.FetchFailed as error:
            print(f"PostgreSQL {major} is missing, its tests are skipped: {error}")


if __name__ == "__main__":
    main()
