"""Evaluation: replay a log in time order, and before each event ask for the next product.

The very fold, items, answers, global models, ranking and strategies of a worker run here, in one process; a session is over when the log
says so.
- Prequential: the first fifth of the rows only warms up; then every row is asked for first and learned after.
- Frozen: the rows before a place are learned and nothing is asked; from there on, every row is asked for, profiles unfold, and items and
  global models stay as they are.
- Sharded: what a fleet computes, neighbours as the items answered them and as the person holds them. Otherwise they are read from the live
  items, which needs them all in one place.

Every row with at least one earlier row in its session asks for the top 20 over the whole catalogue, without sampled negatives. "Novel":
targets that the session has not met, the session's products filtered out of the list. "Session start": the first row of a session of a
person with a history.
"""

from app.domain.evaluation.live_items import LiveItems
from app.domain.evaluation.measures import PARTS, Evaluation
from app.domain.evaluation.run import FOR_YOU, LIST_LENGTH, WARM_UP_PART, Contestant, evaluate_log, one_partition

__all__ = ["FOR_YOU", "LIST_LENGTH", "PARTS", "WARM_UP_PART", "Contestant", "Evaluation", "LiveItems", "evaluate_log", "one_partition"]
