"""The `sft` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def sft(
    config: str,
    reasoning_data: dsl.Input[dsl.Dataset],
    cpt: dsl.Input[dsl.Model],
    output: dsl.Output[dsl.Model],
) -> None:
    """Fine-tunes the model on chain-of-thought samples.

    Args:
        config: Resolved configuration of the stage, as JSON.
        reasoning_data: Reference to the chain-of-thought samples.
        cpt: Reference to the model after continued pretraining.
        output: Reference to what the stage made.
    """
    from components.training.sft.config import SftConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(SftConfig, config, {"reasoning_data": reasoning_data, "cpt": cpt}, output)
