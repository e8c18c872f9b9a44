"""Join a store with images, and check that their pixels and the teacher are those that it was made with."""
