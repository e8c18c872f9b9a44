"""What is trained on: images, views in batches, the teacher's signal."""
