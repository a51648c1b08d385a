"""The distribution: what it contains, what it pins, and that the repository is fit for other machines."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("audio", "codec", "conditioning", "diffusion", "restyler")
DISTRIBUTION_OF = {"PIL": "pillow", "yaml": "PyYAML"}  # where a module is not named like its distribution
PYTHONS = ("3.11", "3.12", "3.13")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
WITH_EXTRAS = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]


@pytest.fixture(scope="module")
def repository_files() -> list[Path]:
    """Every file of the checkout that git does not ignore, relative to its root."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(repository_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout: building in place would leave its own folders behind."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in repository_files:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, source / file)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(source))
    return next(built.glob("*.whl"))


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, capture_output=True, timeout=240)


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def pinned_version(requirement: Requirement) -> Version:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", f"{requirement} is no exact pin"
    return Version(specifier.version)


def test_every_package_comes_from_this_checkout() -> None:
    """Generic names like `audio` are easily shadowed by something else in an environment."""
    for name in PACKAGES:
        assert Path(importlib.import_module(name).__file__ or "").parent == ROOT / name


def test_the_wheel_holds_the_packages_their_data_and_nothing_else(wheel: Path, repository_files: list[Path]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        file.as_posix() for file in repository_files if file.parts[0] in PACKAGES and not file.name.startswith(".")
    }
    assert packed == expected


def test_the_wheel_gives_a_restyler_command_and_no_training_script(wheel: Path, tmp_path: Path) -> None:
    pip("install", "--no-deps", "--no-index", "--target", str(tmp_path), str(wheel))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run(sys.executable, "-c", "import restyler; print(restyler.__file__)") == str(
        tmp_path / "restyler" / "__init__.py"
    )
    assert PROJECT["version"] in run(str(tmp_path / "bin" / "restyler"), "--version").split()
    find = "from importlib.util import find_spec; print([n for n in ('train', 'sample', 'tests') if find_spec(n)])"
    assert run(sys.executable, "-c", find) == "[]"


def required(python: str) -> Iterator[tuple[str, Requirement]]:
    """(by whom, requirement) for all that our project and its extras need on 64-bit Linux under `python`.

    Follows the metadata of the installed packages, where they are the pinned ones.
    """
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    queue = [(PROJECT["name"], Requirement(text)) for text in WITH_EXTRAS]
    seen: set[str] = set()
    while queue:
        parent, requirement = queue.pop()
        wanted_by = f"{parent}: {requirement}"
        if wanted_by in seen:
            continue
        seen.add(wanted_by)
        yield parent, requirement
        for text in distribution(requirement.name).requires or []:
            child = Requirement(text)
            if child.marker is None or any(
                child.marker.evaluate({**environment, "extra": extra}) for extra in ("", *requirement.extras)
            ):
                queue.append((requirement.name, child))


def installed_as_pinned(name: str, requirement: Requirement) -> bool:
    try:
        return Version(distribution(name).version) == pinned_version(requirement)
    except PackageNotFoundError:
        return False


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_is_exactly_what_the_project_needs(python: str) -> None:
    """Complete and consistent, so that an install without a resolver works; and without leftovers."""
    locked = pins()
    other = [name for name, pin in locked.items() if not installed_as_pinned(name, pin)]
    if other:
        pytest.skip(f"this environment is not the locked one: {', '.join(other)}")
    needed = set()
    for parent, requirement in required(python):
        name = canonicalize_name(requirement.name)
        assert name in locked, f"{parent} needs {requirement}, which the lock does not have"
        version = pinned_version(locked[name])
        assert requirement.specifier.contains(version, prereleases=True), f"{parent} needs {requirement}: {version}"
        needed.add(name)
    assert set(locked) == needed


def test_the_lock_satisfies_the_project() -> None:
    locked = pins()
    for text in WITH_EXTRAS:
        requirement = Requirement(text)
        pin = pinned_version(locked[canonicalize_name(requirement.name)])
        assert requirement.specifier.contains(pin), f"{text} is locked at {pin}"


def test_dependencies_are_exactly_what_the_code_imports() -> None:
    """A package that only happens to be there, as another's dependency, may be gone tomorrow."""
    files = [file for name in PACKAGES for file in (ROOT / name).rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    foreign = {module.partition(".")[0] for module in modules} - {*PACKAGES, *sys.stdlib_module_names}
    imported = {canonicalize_name(DISTRIBUTION_OF.get(module, module)) for module in foreign}
    features = [text for name, extra in EXTRAS.items() if name != "dev" for text in extra]
    declared = {canonicalize_name(Requirement(text).name) for text in [*PROJECT["dependencies"], *features]}
    assert declared == imported


def test_no_file_speaks_of_one_machine(repository_files: list[Path]) -> None:
    """Home folders, local files and networks as addresses, and package sources other than the default one, by option
    or by name: a registry or mirror that this machine happens to reach."""
    machine = re.compile(
        r"/(hom[e]|User[s]|roo[t])/|fil[e]:///|extra-inde[x]-url|inde[x]-url|find-link[s]"
        r"|artifactor[y]|jfro[g]|sonatyp[e]|devp[i]|pypi[s]erver|cloudsmit[h]|gemfur[y]"
        r"|pyp[i]\.|pythonhoste[d]|/simpl[e]/|pkgs\.de[v]|pkg\.de[v]|codeartifac[t]|ghc[r]\.io|qua[y]\.io"
        r"|https?:/[/](?!127\.)(\d+\.){3}|https?:/[/][^\s/]+\.(interna[l]|loca[l]|la[n]|cor[p])\b",
        re.IGNORECASE,
    )
    found = []
    for file in repository_files:
        try:
            text = (ROOT / file).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{file}: {match.group()}" for match in machine.finditer(text)]
    assert found == []


def test_files_are_small_enough_to_read(repository_files: list[Path]) -> None:
    lengths = {
        str(file): len((ROOT / file).read_text(encoding="utf-8").splitlines())
        for file in repository_files
        if file.suffix == ".py"
    }
    assert {name: lines for name, lines in lengths.items() if lines >= 400} == {}


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("no-such-python", "Python 3.11, 3.12 or 3.13 is needed"),
        ("old-python", "Python 3.11, 3.12 or 3.13 is needed"),
        ("bare-python", "apt install python3-venv"),
    ],
)
def test_a_python_that_can_not_serve_is_one_clear_line(python: str, said: str, tmp_path: Path) -> None:
    """scripts/environment.sh on machines with no, a too old, or an incomplete Python."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "environment.sh", tmp_path / "scripts")
    for file in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / file, tmp_path)
    pretend(tmp_path / "old-python", "import sys; sys.version_info = (3, 9, 2, 'final', 0)")
    pretend(tmp_path / "bare-python", "import sys; sys.modules['ensurepip'] = None")
    done = subprocess.run(
        ["sh", str(tmp_path / "scripts" / "environment.sh"), python],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ".venv").exists()


def pretend(file: Path, prelude: str) -> None:
    """An interpreter that runs `-c CODE` after the prelude."""
    file.write_text(f"#!/bin/sh\nexec {sys.executable} -c \"{prelude}; exec('''$2''')\"\n", encoding="utf-8")
    file.chmod(0o755)
