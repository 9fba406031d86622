"""Trains models under torchrun, with checkpoints that survive a kill; the Trainer of cpt and sft."""
