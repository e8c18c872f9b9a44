"""What lies below a folder or URL: stores and runs, found and described in a row each."""
