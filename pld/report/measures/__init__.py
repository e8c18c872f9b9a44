"""Measurements for reports: agreement of teacher and labels, loss landscapes."""
