"""The `diagnosis_mcqs` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def diagnosis_mcqs(
    config: str,
    corpus: dsl.Input[dsl.Dataset],
    reasoning_data: dsl.Input[dsl.Dataset],
    output: dsl.Output[dsl.Dataset],
) -> None:
    """Samples multiple-choice questions on the diagnosis from pairs that no reasoning sample used.

    Args:
        config: Resolved configuration of the stage, as JSON.
        corpus: Reference to the corpus.
        reasoning_data: Reference to the chain-of-thought samples.
        output: Reference to what the stage made.
    """
    from components.data_processing.diagnosis_mcqs.config import DiagnosisMcqsConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(DiagnosisMcqsConfig, config, {"corpus": corpus, "reasoning_data": reasoning_data}, output)
