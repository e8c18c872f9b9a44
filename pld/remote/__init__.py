"""Object stores and web servers: places, retries, and what is kept of them on the local disk."""
