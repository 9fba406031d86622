"""What is in the data between stages: schemas, images, terms."""
