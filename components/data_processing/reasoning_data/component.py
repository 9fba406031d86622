"""The `reasoning_data` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def reasoning_data(
    config: str,
    corpus: dsl.Input[dsl.Dataset],
    output: dsl.Output[dsl.Dataset],
) -> None:
    """Writes chain-of-thought samples from captions and in-line references.

    Args:
        config: Resolved configuration of the stage, as JSON.
        corpus: Reference to the corpus.
        output: Reference to what the stage made.
    """
    from components.data_processing.reasoning_data.config import ReasoningDataConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(ReasoningDataConfig, config, {"corpus": corpus}, output)
