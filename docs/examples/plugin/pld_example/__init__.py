"""Examples of plug-ins for pld-distill: a loss, a view step, a dataset and a kind of teacher."""
