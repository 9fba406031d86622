"""The library that the stages share, and the command line."""
