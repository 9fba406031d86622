"""Defines options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="STAGE.KEY=VALUE",
        help="Change one value of the recipe, such as cpt.epochs=2 or cpt.compute.nodes=2; repeatable.",
    ),
]
RecipeOption = Annotated[str, typer.Option(help="Name or folder of a recipe; see `pathoflow recipes`.")]
