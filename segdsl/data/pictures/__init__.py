"""Pictures of a dataset: previews and contact sheets."""
