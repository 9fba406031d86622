"""The `register` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def register(
    config: str,
    vqa_benchmarks: dsl.Input[dsl.Dataset],
    pathoclip: dsl.Input[dsl.Model],
    rl: dsl.Input[dsl.Model],
    output: dsl.Output[dsl.Dataset],
) -> None:
    """Registers the model in MLflow with its lineage.

    Args:
        config: Resolved configuration of the stage, as JSON.
        vqa_benchmarks: Reference to the predictions and their scores.
        pathoclip: Reference to PathoCLIP.
        rl: Reference to the model after reinforcement learning.
        output: Reference to what the stage made.
    """
    from components.deployment.register.config import RegisterConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(RegisterConfig, config, {"vqa_benchmarks": vqa_benchmarks, "pathoclip": pathoclip, "rl": rl}, output)
