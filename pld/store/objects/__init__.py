"""Objects by name: on local disks and behind URLs, created exclusively."""
