"""The studio: a web page for exploring a trained model, served on this machine or exported as one file.

`bundle` creates the files that the page needs for a run, `server` serves them with the page and follows a training, and `single`
writes everything as one HTML file. The page is built from the project's `studio/` into `dist/` here. It runs the model in the
browser; these modules only provide files and the state of a training.
"""
