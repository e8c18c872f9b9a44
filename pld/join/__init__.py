"""Joining what must belong together: a store with images, their pixels with the teacher's, a teacher with its store."""
