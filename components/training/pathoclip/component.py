"""The `pathoclip` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def pathoclip(
    config: str,
    corpus: dsl.Input[dsl.Dataset],
    output: dsl.Output[dsl.Model],
) -> None:
    """Trains PathoCLIP on the corpus by contrastive learning.

    Args:
        config: Resolved configuration of the stage, as JSON.
        corpus: Reference to the corpus.
        output: Reference to what the stage made.
    """
    from components.training.pathoclip.config import PathoclipConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(PathoclipConfig, config, {"corpus": corpus}, output)
