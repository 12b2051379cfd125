"""The studio: a page on one's own model, served on this machine or written as one file.

`bundle` makes of a run all that the page needs, as files; `server` serves them with the page, and follows a training; `single`
writes both as one HTML file. The page itself is built from `studio/` of the project into `dist/` here, and it computes by itself:
these modules hand it files and say what is going on, and no more.
"""
