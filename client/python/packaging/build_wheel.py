"""Builds the wheel with nothing but the standard library (PEP 517), so that `pip install ./client/python` needs no network.

The extensions are compiled where a compiler and Python's headers are there, and for the store's reader those of Boost and the JSON
library; without them the package does the same, slower."""

import base64
import glob
import hashlib
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _project():
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        return tomllib.load(file)["project"]


def _metadata(project):
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}",
             f"Summary: {project['description']}", f"Requires-Python: {project['requires-python']}"]
    for extra, needs in project.get("optional-dependencies", {}).items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {need}; extra == "{extra}"' for need in needs]
    lines += ["Description-Content-Type: text/markdown", ""]
    with open(os.path.join(ROOT, project["readme"])) as file:
        return "\n".join(lines) + "\n" + file.read()


def _proto():
    """The folder of the reader's sources: in the repository, or in a source distribution; None if they are not there."""
    for folder in (os.path.join(ROOT, "proto"), os.path.join(ROOT, "..", "..", "proto")):
        if all(os.path.exists(os.path.join(folder, name)) for name in READER):
            return folder
    return None


#: What the reader is made of; client/python/CMakeLists.txt has the same list.
READER = ("store/reader.cpp", "store/hash.cpp", "store/key.cpp", "errc.cpp", "result.cpp")


def _compile(folder):
    """The files of the extensions that can be built here."""
    taskpool = os.path.join(ROOT, "taskpool")
    native = sorted(glob.glob(os.path.join(taskpool, "_native*.c")))
    built = [_compile_one(folder, "_native", "CC", "cc", native)]
    if proto := _proto():
        reader = [os.path.join(taskpool, "_segment.cpp"), *(os.path.join(proto, name) for name in READER)]
        built.append(_compile_one(folder, "_segment", "CXX", "c++", ["-std=c++20", f"-I{os.path.dirname(proto)}", *reader]))
    return [path for path in built if path is not None]


def _compile_one(folder, name, variable, default, arguments):
    """The extension's file, or None where it cannot be built."""
    headers = sysconfig.get_paths()["include"]
    if not os.path.exists(os.path.join(headers, "Python.h")):
        return None
    compiler = (os.environ.get(variable) or sysconfig.get_config_var(variable) or default).split()
    target = os.path.join(folder, name + sysconfig.get_config_var("EXT_SUFFIX"))
    command = [*compiler, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", f"-I{headers}", *arguments, "-o", target]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        print(f"without the extension {name}: {error}", file=sys.stderr)
        return None
    if done.returncode != 0:
        print(f"without the extension {name}: {done.stderr}", file=sys.stderr)
        return None
    return target


def _tag(has_extension):
    if not has_extension:
        return "py3-none-any"
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"{version}-{version}-{platform}"


CODE = (".c", ".h", ".cpp", ".hpp")


def _sources():
    for folder, folders, files in os.walk(os.path.join(ROOT, "taskpool")):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            if name.endswith((".py", ".typed", *CODE)):
                path = os.path.join(folder, name)
                yield path, os.path.relpath(path, ROOT)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    project = _project()
    with tempfile.TemporaryDirectory() as folder:
        extensions = _compile(folder)
        tag = _tag(bool(extensions))
        name = f"{project['name']}-{project['version']}-{tag}.whl"
        info = f"{project['name']}-{project['version']}.dist-info"
        contents = [(archived, open(path, "rb").read()) for path, archived in _sources() if not path.endswith(CODE)]
        contents += [(f"taskpool/{os.path.basename(path)}", open(path, "rb").read()) for path in extensions]
        contents.append((f"{info}/METADATA", _metadata(project).encode()))
        wheel = f"Wheel-Version: 1.0\nGenerator: taskpool\nRoot-Is-Purelib: {str(not extensions).lower()}\nTag: {tag}\n"
        contents.append((f"{info}/WHEEL", wheel.encode()))
    record = ""
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in contents:
            archive.writestr(path, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(data)}\n"
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return name


def _headers(proto):
    return [os.path.join(folder, name) for folder in ("", "store") for name in sorted(os.listdir(os.path.join(proto, folder)))
            if name.endswith(".hpp")]


def build_sdist(sdist_directory, config_settings=None):
    project = _project()
    base = f"{project['name']}-{project['version']}"
    with tarfile.open(os.path.join(sdist_directory, base + ".tar.gz"), "w:gz") as archive:
        for name in ("pyproject.toml", "README.md", "packaging/build_wheel.py"):
            archive.add(os.path.join(ROOT, name), f"{base}/{name}")
        for path, archived in _sources():
            archive.add(path, f"{base}/{archived}")
        proto = _proto()
        for name in [*READER, *_headers(proto)] if proto else ():
            archive.add(os.path.join(proto, name), f"{base}/proto/{name}")
    return base + ".tar.gz"
