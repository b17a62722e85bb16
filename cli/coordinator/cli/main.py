"""The command line's root: all commands, and how whatever goes wrong becomes one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from typer.exceptions import Abort, TyperException

from coordinator.cli.commands import (
    api,
    audit,
    cancel,
    dead,
    demo,
    dispatcher,
    doctor,
    models,
    result,
    submit,
    up,
    worker,
    workers,
)
from coordinator.core.errors import CoordinatorError, InvalidInput, Misconfigured

FAILURE: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

app = typer.Typer(
    name="coordinator",
    help="A central coordinator for machine-learning inference workers. Begin with: coordinator demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version("central-coordinator"))
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Takes the options that belong to no command."""


app.command("up")(up.command)
app.command("demo")(demo.command)
app.command("api")(api.command)
app.command("dispatcher")(dispatcher.command)
app.command("worker")(worker.command)
app.command("submit")(submit.command)
app.command("result")(result.command)
app.command("cancel")(cancel.command)
app.command("workers")(workers.command)
app.command("models")(models.command)
app.add_typer(dead.app, name="dead")
app.command("audit")(audit.command)
app.command("doctor")(doctor.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(args=arguments, prog_name="coordinator", standalone_mode=False)
    except TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except (InvalidInput, Misconfigured) as error:
        return _fail(str(error), USAGE)
    except CoordinatorError as error:
        return _fail(str(error), FAILURE)
    except ValidationError as error:
        return _fail(_settings_trouble(error), USAGE)
    except (Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except OSError as error:
        return _fail(str(error), FAILURE)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"coordinator: {line}", file=sys.stderr)
    return code


def _settings_trouble(error: ValidationError) -> str:
    """The first thing that is wrong with the settings, under the name that the operator knows."""
    first = error.errors(include_url=False)[0]
    where = "_".join(("COORDINATOR", *(str(part).upper() for part in first["loc"])))
    return f"{where if first['loc'] else 'The settings do not fit together'}: {first['msg']}."
