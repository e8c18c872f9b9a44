"""Measurements for reports: teacher-student agreement, loss landscapes."""
