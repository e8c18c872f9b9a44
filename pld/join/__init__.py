"""What joins a store with its images, its pixels with the teacher's, and the teacher with its store."""
