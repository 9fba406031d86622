"""Fine-tunes the model on chain-of-thought samples."""
