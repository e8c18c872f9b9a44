"""Objects by name, on local disks and behind URLs: read, written, created exclusively."""
