"""A training of a few hundred weights, with all that can go wrong around it: for tests of processes and restarts."""
