"""The studio: a page on the user's own machine to see, train and try."""
