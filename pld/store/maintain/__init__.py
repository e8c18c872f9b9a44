"""Verify, repair, convert and transfer stores."""
