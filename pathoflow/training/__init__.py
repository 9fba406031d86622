"""The one engine of training: torchrun as a child, checkpoints that can be trusted, and the trainer of cpt and sft."""
