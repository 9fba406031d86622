"""Command line of the `teaching_atlas` stage."""

from components.data_processing.teaching_atlas.config import TeachingAtlasConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(TeachingAtlasConfig)
