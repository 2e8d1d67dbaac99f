"""Functions by name: dotted, `package.module.Class.method`, as the daemon shows them and the runtime finds them."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import types
from multiprocessing import process
from typing import Any, Callable

from . import wire

_REFERENCED = (types.FunctionType, types.BuiltinFunctionType, type)


def main_module() -> tuple[str, str] | None:
    """How a worker can import this program's main module: ("name", its name) or ("path", its file). None if it cannot: in an
    interactive session, or for a program that came on standard input."""
    main = sys.modules["__main__"]
    if (name := getattr(main.__spec__, "name", None)) is not None:
        return "name", name
    path = getattr(main, "__file__", None)
    if path is None:
        return None
    if not os.path.isabs(path) and process.ORIGINAL_DIR is not None:  # type: ignore[attr-defined]
        path = os.path.join(process.ORIGINAL_DIR, path)  # type: ignore[attr-defined]
    return ("path", os.path.normpath(path)) if os.path.isfile(path) else None


def name_of(function: Any) -> str | None:
    """The name by which a worker finds the very same function; None for what has to travel itself: objects with a state,
    lambdas, closures, what was decorated away."""
    if type(function) not in _REFERENCED:
        return None
    module, qualified = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or not qualified or "<" in qualified or " " in module:
        return None
    found: Any = sys.modules.get(module)
    if module == "__main__" and main_module() is None:
        return None
    for part in qualified.split("."):
        found = getattr(found, part, None)
    name = f"{module}.{qualified}"
    return name if found is function and len(name) < wire.MAX_FUNCTION_BYTES - 8 else None


@functools.lru_cache(maxsize=4096)
def find(name: str) -> Callable[..., Any]:
    """The function of that name. Raises LookupError if there is none, and what an import raises."""
    module, found, rest = _import_longest(name)
    for part in rest:
        try:
            found = getattr(found, part)
        except AttributeError:
            raise LookupError(f"{module} has no {'.'.join(rest)}") from None
    if not callable(found):
        raise LookupError(f"{name} is not a function")
    return found


def _import_longest(name: str) -> tuple[str, Any, list[str]]:
    parts = name.split(".")
    if not all(parts):
        raise LookupError(f"{name!r} is not a dotted name")
    for end in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:end])
        if module in sys.modules:
            return module, sys.modules[module], parts[end:]
        try:
            return module, importlib.import_module(module), parts[end:]
        except ModuleNotFoundError as error:
            if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
                raise
    if len(parts) == 1 and hasattr(builtins_module(), name):
        return "builtins", builtins_module(), parts
    raise LookupError(f"there is no module {'.'.join(parts[:-1]) or name}")


def builtins_module() -> Any:
    return importlib.import_module("builtins")
