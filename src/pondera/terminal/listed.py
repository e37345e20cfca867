"""What there is: `pondera models`, `pondera strategies` and `pondera verifiers`."""

from __future__ import annotations

from typing import Annotated

import typer

from pondera.terminal.given import Quiet
from pondera.terminal.text import console, emit

models_app = typer.Typer(help="The models that Pondera knows by name, and which of them are here.", invoke_without_command=True)


@models_app.callback()
def models(context: typer.Context) -> None:
    """The models that Pondera knows by name, and which of them are here."""
    if context.invoked_subcommand:
        return
    from pondera.terminal import catalogue

    console().print(catalogue.models())


@models_app.command("pull", epilog="Example:  pondera models pull smollm2-135m")
def pull(name: Annotated[str, typer.Argument(help="A name of `pondera models`.")], quiet: Quiet = False) -> None:
    """Fetch a model's file and check it. A cut download goes on where it was."""
    from pondera.models.weights import pull as fetch
    from pondera.terminal.session import progress_bar

    with progress_bar(console(stderr=True), quiet) as progress:
        place = fetch(name, progress=progress)
    emit(str(place))


def strategies() -> None:
    """The ways to think, with their arguments and defaults."""
    from pondera.strategies import STRATEGIES
    from pondera.terminal.catalogue import functions

    console().print(functions(STRATEGIES))


def verifiers() -> None:
    """Who can judge branches, with their arguments and defaults."""
    from pondera.terminal.catalogue import functions
    from pondera.verifiers import VERIFIERS

    console().print(functions(VERIFIERS))
