"""What is trained on: images in batches, and the teacher's signal for each batch."""
