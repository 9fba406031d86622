"""Command line of the `diagnosis_mcqs` stage."""

from components.data_processing.diagnosis_mcqs.config import DiagnosisMcqsConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(DiagnosisMcqsConfig)
