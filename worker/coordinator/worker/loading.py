"""Finding the worker that a command line names."""

from __future__ import annotations

import importlib
import sys

from coordinator.core.errors import InvalidInput
from coordinator.worker.definition import Worker


def load(target: str) -> Worker:
    """Import `module:attribute`, from the current folder too. Raises `InvalidInput`, or what the module itself raises."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise InvalidInput(f"'{target}' does not name a worker: it reads module:attribute, such as my_module:worker.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise InvalidInput(f"There is no module '{error.name}' (looked for '{target}').") from error
    except (TypeError, ValueError) as error:
        if module_name.strip(".") == module_name:
            raise
        raise InvalidInput(f"'{module_name}' is not a module's name.") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InvalidInput(f"The module '{module_name}' has no '{attribute}'.")
        found = getattr(found, part)
    if not isinstance(found, Worker):
        raise InvalidInput(f"'{target}' is a {type(found).__name__}, not a Worker.")
    if not found.handlers:
        raise InvalidInput(f"'{target}' serves no model: decorate a function with @worker.model(name).")
    return found
