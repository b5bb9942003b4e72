"""`report.html` of a run: one file that needs no network. Sections are a module each, the page is in `page`."""
