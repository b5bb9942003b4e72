"""The section on the dataset: sizes and channels of images, and the frequency of each class by subset."""

from __future__ import annotations

from segdsl.data.pictures.dataset_view import collect_dataset_view, collect_subset_views
from segdsl.run.report.run_data import RunData


def collect_dataset(run: RunData) -> dict[str, object]:
    """Return the counts of `segdsl data stats` for the subsets of the run."""
    if not run.stats or run.index is None:
        return {"missing": f"No statistics of the dataset: {run.missing}.", "subsets": []}
    subsets = collect_subset_views(run.stats, run.index.labels, run.index.ignore)
    return collect_dataset_view(run.index.root, run.index.format, subsets)
