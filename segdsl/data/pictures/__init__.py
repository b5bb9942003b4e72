"""Pictures of a dataset: pages and grids of its images, and previews of the augmentation."""
