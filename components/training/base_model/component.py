"""The `base_model` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def base_model(
    config: str,
    corpus: dsl.Input[dsl.Dataset],
    reasoning_data: dsl.Input[dsl.Dataset],
    output: dsl.Output[dsl.Model],
) -> None:
    """Builds a tiny Qwen2.5-VL with random weights, its tokenizer and its first exercises.

    Args:
        config: Resolved configuration of the stage, as JSON.
        corpus: Reference to the corpus.
        reasoning_data: Reference to the chain-of-thought samples.
        output: Reference to what the stage made.
    """
    from components.training.base_model.config import BaseModelConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(BaseModelConfig, config, {"corpus": corpus, "reasoning_data": reasoning_data}, output)
