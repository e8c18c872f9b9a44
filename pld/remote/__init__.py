"""Object stores and web servers: drivers, retries, and what is cached of them on the local disk."""
