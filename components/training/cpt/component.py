"""The `cpt` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def cpt(
    config: str,
    corpus: dsl.Input[dsl.Dataset],
    output: dsl.Output[dsl.Model],
    base_model: dsl.Input[dsl.Model] = None,
) -> None:
    """Continues the pretraining of Qwen2.5-VL on the corpus.

    Args:
        config: Resolved configuration of the stage, as JSON.
        corpus: Reference to the corpus.
        output: Reference to what the stage made.
        base_model: Reference to the model that training starts from, unless the configuration names one.
    """
    from components.training.cpt.config import CptConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(CptConfig, config, {"corpus": corpus, "base_model": base_model}, output)
