"""Self-contained HTML pages: the frame, style and script that the pages of runs and datasets share."""
