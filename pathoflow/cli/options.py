"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Change one value of the recipe; repeatable."),
]
RecipeOption = Annotated[str, typer.Option(help="Name or folder of a recipe; see `pathoflow recipes`.")]
