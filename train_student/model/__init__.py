"""The student, its optimizer and schedule."""
