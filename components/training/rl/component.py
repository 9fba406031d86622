"""The `rl` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def rl(
    config: str,
    diagnosis_mcqs: dsl.Input[dsl.Dataset],
    sft: dsl.Input[dsl.Model],
    output: dsl.Output[dsl.Model],
) -> None:
    """Trains the model by reinforcement learning on multiple-choice questions.

    Args:
        config: Resolved configuration of the stage, as JSON.
        diagnosis_mcqs: Reference to the multiple-choice questions.
        sft: Reference to the model after fine-tuning.
        output: Reference to what the stage made.
    """
    from components.training.rl.config import RlConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(RlConfig, config, {"diagnosis_mcqs": diagnosis_mcqs, "sft": sft}, output)
