"""Stage one: run a teacher once over a dataset and write its top-k log-probabilities to a store."""

import logging

# Programs that use it decide what they show; the commands show everything.
logging.getLogger(__name__).addHandler(logging.NullHandler())
