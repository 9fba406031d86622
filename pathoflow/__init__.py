"""What the stages of pathoflow share, and its command line."""
