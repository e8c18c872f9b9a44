"""Readers of datasets in the forms that others publish: archives, Kaggle's layout, CSV, Arrow and Parquet files."""
