"""The certificate of an export: trial images, comparisons and the first diverging node."""
