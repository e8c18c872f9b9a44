"""What the study's runs say, as tables, figures and a page."""
