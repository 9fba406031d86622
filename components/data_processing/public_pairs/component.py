"""The `public_pairs` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def public_pairs(
    config: str,
    output: dsl.Output[dsl.Dataset],
    teaching_atlas: dsl.Input[dsl.Dataset] = None,
    shard: str = "",
    parts: dsl.Input[list[dsl.Dataset]] = None,
) -> None:
    """Turns public data sets of captioned images into image–caption pairs.

    Args:
        config: Resolved configuration of the stage, as JSON.
        output: Reference to what the stage made.
        teaching_atlas: Reference to the teaching atlas; left out where a recipe brings its own sources.
        shard: Which share of the work this task does, as `i/n`; empty for the whole.
        parts: References to what the shards made, for the task that merges them.
    """
    from components.data_processing.public_pairs.config import PublicPairsConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(PublicPairsConfig, config, {"teaching_atlas": teaching_atlas}, output, shard=shard, parts=parts)
