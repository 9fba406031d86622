"""The `corpus` stage as a KFP component."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def corpus(
    config: str,
    textbook_pairs: dsl.Input[dsl.Dataset],
    public_pairs: dsl.Input[dsl.Dataset],
    output: dsl.Output[dsl.Dataset],
) -> None:
    """Joins all pairs into one deduplicated, split and sharded corpus.

    Args:
        config: Resolved configuration of the stage, as JSON.
        textbook_pairs: Reference to the pairs from textbooks.
        public_pairs: Reference to the pairs from public data sets.
        output: Reference to what the stage made.
    """
    from components.data_processing.corpus.config import CorpusConfig
    from pathoflow.contract.entrypoints import run_task

    run_task(CorpusConfig, config, {"textbook_pairs": textbook_pairs, "public_pairs": public_pairs}, output)
