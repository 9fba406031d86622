"""What keeps generated files in step with the code: READMEs, the picture of the graph, compiled pipelines."""
