"""Read stores: views, tables, several stores as one."""
