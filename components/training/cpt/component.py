"""The `cpt` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def cpt(
    config: str,
    corpus: dsl.Input[dsl.Dataset],
    reasoning_data: dsl.Input[dsl.Dataset],
    output: dsl.Output[dsl.Model],
) -> None:
    """Continues the pretraining of Qwen2.5-VL on the corpus.

    Args:
        config: Resolved configuration of the stage, as JSON.
        corpus: Reference to the corpus.
        reasoning_data: Reference to the chain-of-thought samples.
        output: Reference to what the stage made.
    """
    from components.training.cpt.config import CptConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(CptConfig, config, {"corpus": corpus, "reasoning_data": reasoning_data}, output)
