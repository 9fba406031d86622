"""A stage that makes a model of what the toy stage made."""
