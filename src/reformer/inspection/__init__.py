"""Diagnostics of a model's attention: bucket occupancy, recall of full attention, distances.

The computing parts take and give tensors: ``visibility``, ``statistics``. ``capture`` takes q, v and
buckets from a model's forward pass, ``summary`` makes rows of them, and ``tables``, ``plots`` and ``page`` show those.
"""

from reformer.inspection.capture import Captured, capture
from reformer.inspection.statistics import TOP_K, bucket_sizes, effective_buckets, evenly_spaced, recall_by_rounds
from reformer.inspection.summary import distance_labels, inspect_model

__all__ = [
    "TOP_K",
    "Captured",
    "bucket_sizes",
    "capture",
    "distance_labels",
    "effective_buckets",
    "evenly_spaced",
    "inspect_model",
    "recall_by_rounds",
]
