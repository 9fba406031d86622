"""The `teaching_atlas` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def teaching_atlas(
    config: str,
    output: dsl.Output[dsl.Dataset],
) -> None:
    """Renders a seeded teaching atlas: scanned-looking pages and captioned images, with the truth beside them.

    Args:
        config: Resolved configuration of the stage, as JSON.
        output: Reference to what the stage made.
    """
    from components.data_processing.teaching_atlas.config import TeachingAtlasConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(TeachingAtlasConfig, config, {}, output)
