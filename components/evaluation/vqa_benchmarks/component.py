"""The `vqa_benchmarks` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def vqa_benchmarks(
    config: str,
    diagnosis_mcqs: dsl.Input[dsl.Dataset],
    cpt: dsl.Input[dsl.Model],
    sft: dsl.Input[dsl.Model],
    rl: dsl.Input[dsl.Model],
    output: dsl.Output[dsl.Dataset],
) -> None:
    """Measures the base, CPT, SFT and RL models on held-out questions.

    Args:
        config: Resolved configuration of the stage, as JSON.
        diagnosis_mcqs: Reference to the multiple-choice questions.
        cpt: Reference to the model after continued pretraining.
        sft: Reference to the model after fine-tuning.
        rl: Reference to the model after reinforcement learning.
        output: Reference to what the stage made.
    """
    from components.evaluation.vqa_benchmarks.config import VqaBenchmarksConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(VqaBenchmarksConfig, config, {"diagnosis_mcqs": diagnosis_mcqs, "cpt": cpt, "sft": sft, "rl": rl}, output)
